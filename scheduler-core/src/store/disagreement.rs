//! Live processes whose definitions of one job differ.

use std::collections::BTreeMap;

use crate::run::InstanceId;

/// What the definitions of a process make of its schedule rows: by job, its cadence, start and scope.
pub type Definitions = BTreeMap<String, String>;

/// A job that live processes define in different ways: each start writes the definition of its process into
/// the schedule row, so that the last one that started has its way. For as long as a new version is being
/// rolled out that is as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disagreement {
    /// The job.
    pub job: String,
    /// What the definitions say, with the processes that have them.
    pub definitions: BTreeMap<String, Vec<InstanceId>>,
}

/// The jobs about which these processes disagree, by name. Who does not have a job says nothing of it.
pub(crate) fn disagreements<'a>(
    live: impl IntoIterator<Item = (InstanceId, &'a Definitions)>,
) -> Vec<Disagreement> {
    let mut of_jobs: BTreeMap<&str, BTreeMap<String, Vec<InstanceId>>> = BTreeMap::new();
    for (instance, definitions) in live {
        for (job, definition) in definitions {
            let of_job = of_jobs.entry(job).or_default();
            of_job.entry(definition.clone()).or_default().push(instance);
        }
    }
    of_jobs
        .into_iter()
        .filter(|(_, definitions)| definitions.len() > 1)
        .map(|(job, definitions)| Disagreement { job: job.to_owned(), definitions })
        .collect()
}
