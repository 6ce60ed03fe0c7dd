//! The contracts of stores, run on every store of this build, once with its tables under names that are
//! not their own, and what is true of one database only: the `sqlite_…` are about the one writer of a
//! file, `postgres_writer` about a pool, `postgres_rows` about its locks; `two_runtimes` about a process
//! with several.

mod fixture;
#[cfg(feature = "postgres")]
mod postgres_rows;
#[cfg(feature = "postgres")]
mod postgres_writer;
mod sqlite_failures;
mod sqlite_groups;
mod sqlite_writer;
mod two_runtimes;

use self::fixture::{InMemory, Pair};

mod memory {
    use super::InMemory;

    scheduler_core::store_contract_a!(InMemory::empty());
}

mod sqlite {
    use super::Pair;

    scheduler_core::store_contract_a!(Pair::sqlite().await);
    scheduler_core::store_contract_b!(Pair::sqlite().await);
}

mod sqlite_under_a_prefix {
    use super::Pair;

    scheduler_core::store_contract_a!(Pair::sqlite_under_a_prefix().await);
    scheduler_core::store_contract_b!(Pair::sqlite_under_a_prefix().await);
}

#[cfg(feature = "postgres")]
mod postgres_in_a_schema {
    use super::Pair;

    scheduler_core::store_contract_a!({
        let Some(pair) = Pair::postgres_in_a_schema().await else { return };
        pair
    });
    scheduler_core::store_contract_b!({
        let Some(pair) = Pair::postgres_in_a_schema().await else { return };
        pair
    });
}

#[cfg(feature = "postgres")]
mod postgres {
    use super::Pair;

    scheduler_core::store_contract_a!({
        let Some(pair) = Pair::postgres().await else { return };
        pair
    });
    scheduler_core::store_contract_b!({
        let Some(pair) = Pair::postgres().await else { return };
        pair
    });
}
