//! Whether somebody can be asked, who is asked, and what the answer is recorded as.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use scheduler_core::Clock;

use crate::decisions::{
    Action, Answered, Budget, Conclusion, DecisionProvider, DecisionRequest, Noop, ProviderError,
    ProviderKind, RuleGraph, SkipReason, Snapshot, Status, Usage, check_ready, conclude, skipped,
};
use crate::store::decision_runs::ConcludedRun;
use crate::strategy::{GraphError, ValidGraph, default_graph};

/// Who can be asked.
#[derive(Clone, Default)]
pub struct Providers {
    language_model: Option<Arc<dyn DecisionProvider>>,
}

impl Providers {
    /// The graphs alone: whoever asks for a language model is skipped.
    #[must_use]
    pub fn without_model() -> Self {
        Self::default()
    }

    /// With a language model.
    #[must_use]
    pub fn with_model(language_model: Arc<dyn DecisionProvider>) -> Self {
        Self { language_model: Some(language_model) }
    }

    async fn ask(
        &self,
        kind: ProviderKind,
        request: &DecisionRequest,
        limit: Duration,
    ) -> Answered {
        match (kind, &self.language_model) {
            (ProviderKind::Noop, _) => Noop.decide(request, limit).await,
            (ProviderKind::RuleGraph, _) => RuleGraph.decide(request, limit).await,
            (ProviderKind::HttpLlm, Some(model)) => model.decide(request, limit).await,
            (ProviderKind::HttpLlm, None) => {
                let detail = "no language model is set up".to_owned();
                Answered::free(Err(ProviderError::NotConfigured(detail)))
            }
        }
    }
}

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let has_model = self.language_model.is_some();
        f.debug_struct("Providers").field("language_model", &has_model).finish()
    }
}

/// The strategies of a batch, each read once.
#[derive(Default)]
pub(super) struct Graphs {
    read: BTreeMap<String, Result<ValidGraph, String>>,
    draft: Option<ValidGraph>,
}

impl Graphs {
    /// The strategy of a subject: its version, or the default draft.
    pub(super) fn of(
        &mut self,
        hash: Option<&str>,
        text: Option<&str>,
    ) -> Result<ValidGraph, UnreadableGraph> {
        let Some(hash) = hash else {
            return Ok(self.draft.get_or_insert_with(default_graph).clone());
        };
        let read = self.read.entry(hash.to_owned()).or_insert_with(|| {
            ValidGraph::parse(text.unwrap_or_default())
                .map_err(|error: GraphError| error.to_string())
        });
        read.clone().map_err(|reason| UnreadableGraph { hash: hash.to_owned(), reason })
    }
}

/// A version that was recorded and cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("strategy {hash} cannot be read: {reason}")]
pub(super) struct UnreadableGraph {
    hash: String,
    reason: String,
}

/// Somebody who is to decide.
pub(super) struct Question {
    /// The item that is charged for a fault.
    pub(super) key: i64,
    /// The run that is recorded.
    pub(super) run_id: String,
    /// Who decides.
    pub(super) clone_id: i64,
    /// Who is asked.
    pub(super) kind: ProviderKind,
    /// The strategy.
    pub(super) graph: ValidGraph,
    /// What is known.
    pub(super) snapshot: Snapshot,
    /// What may be spent in a day.
    pub(super) budget: Budget,
}

/// What clones spent today, with what was answered in this cycle: several accounts of one clone share
/// its budget.
pub(super) struct Spent(Mutex<BTreeMap<i64, Usage>>);

impl Spent {
    /// From what is recorded.
    pub(super) fn new(recorded: BTreeMap<i64, Usage>) -> Self {
        Self(Mutex::new(recorded))
    }

    fn by(&self, clone_id: i64) -> Usage {
        let spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        spent.get(&clone_id).copied().unwrap_or_default()
    }

    fn add(&self, clone_id: i64, usage: Usage) {
        let mut spent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_clone = spent.entry(clone_id).or_default();
        *of_clone = of_clone.and(usage);
    }
}

/// What was recorded for an item, so far.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::workers) struct Decided {
    /// The item.
    pub(in crate::workers) key: i64,
    /// The run.
    pub(in crate::workers) run: ConcludedRun,
}

impl Decided {
    /// The same as a failure of this program's own. What was spent is spent.
    pub(in crate::workers) fn charged(self, error: String) -> Self {
        let Self { key, run: ConcludedRun { id, as_of_ms, usage, latency_ms, .. } } = self;
        let run = ConcludedRun { usage, latency_ms, ..faulty(id, as_of_ms, error) };
        Self { key, run }
    }
}

/// Asks, and says what is recorded. An intent leaves the run `running`; a panic is a fault.
pub(super) async fn decide(
    providers: &Providers,
    question: Question,
    spent: &Spent,
    limit: Duration,
    clock: &dyn Clock,
) -> Decided {
    let (key, run_id) = (question.key, question.run_id.clone());
    let as_of_ms = question.snapshot.as_of_ms;
    let asked = AssertUnwindSafe(ask(providers, question, spent, limit, clock)).catch_unwind();
    let run = asked.await.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
        faulty(run_id, as_of_ms, format!("panicked: {}", text.unwrap_or_default()))
    });
    Decided { key, run }
}

async fn ask(
    providers: &Providers,
    question: Question,
    spent: &Spent,
    limit: Duration,
    clock: &dyn Clock,
) -> ConcludedRun {
    let Question { run_id, clone_id, kind, graph, snapshot, budget, .. } = question;
    let as_of_ms = snapshot.as_of_ms;
    // Who looks at nothing needs nothing to look at.
    let ready = match kind {
        ProviderKind::Noop => Ok(()),
        ProviderKind::RuleGraph | ProviderKind::HttpLlm => check_ready(&graph, &snapshot),
    };
    if let Err(reason) = ready {
        return unasked(run_id, as_of_ms, skipped(reason, None));
    }
    let request = DecisionRequest { clone_id, graph, snapshot };
    let asked_at_ms = clock.now_ms();
    let answered = match kind {
        ProviderKind::HttpLlm if !budget.allows(&spent.by(clone_id)) => {
            Answered::free(Err(ProviderError::BudgetExceeded))
        }
        _ => providers.ask(kind, &request, limit).await,
    };
    let latency_ms = clock.now_ms().saturating_sub(asked_at_ms);
    let Answered { output, usage, model, raw_response } = answered;
    spent.add(clone_id, usage);
    let conclusion = conclude(output);
    let proposes = conclusion.status == Status::Running;
    let hash = (kind != ProviderKind::Noop).then(|| request.snapshot.hash());
    ConcludedRun {
        conclusion,
        model,
        snapshot_hash: hash,
        // A snapshot is long: it is kept where money may follow from it.
        snapshot: proposes.then(|| serde_json::to_string(&request.snapshot).unwrap_or_default()),
        raw_response,
        usage,
        latency_ms,
        ..unasked(run_id, as_of_ms, skipped(SkipReason::Hold, None))
    }
}

/// A run of which nobody was asked.
pub(in crate::workers) fn unasked(
    run_id: String,
    as_of_ms: i64,
    conclusion: Conclusion,
) -> ConcludedRun {
    ConcludedRun {
        id: run_id,
        conclusion,
        as_of_ms,
        model: None,
        snapshot_hash: None,
        snapshot: None,
        raw_response: None,
        risk_verdicts: None,
        client_order_ids: Vec::new(),
        usage: Usage::default(),
        latency_ms: 0,
        error: None,
    }
}

/// A run that failed for a reason of this program's own.
pub(in crate::workers) fn faulty(run_id: String, as_of_ms: i64, error: String) -> ConcludedRun {
    let conclusion = Conclusion {
        action: Action::None,
        status: Status::Error,
        reason: None,
        intents: Vec::new(),
        note: None,
    };
    ConcludedRun { error: Some(error), ..unasked(run_id, as_of_ms, conclusion) }
}
