//! TLS to the server, as `sslmode` in the address asks for it.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rcgen::{BasicConstraints, Certificate, CertificateParams, IsCa, Issuer, KeyPair};
use scheduler_core::migration::{self, List, SchedulerMigrator};
use scheduler_core::{
    Cadence, JobContext, JobDefinition, RunStatus, RunSummary, Scheduler, Shutdown, Store,
};
use sea_orm::{ConnectionTrait, Statement};

use crate::postgres::server::{PrivateServer, Programs, Stop};

/// A server that takes nothing but TLS over TCP, under a certificate for `localhost`.
struct TlsServer {
    server: PrivateServer,
    port: u16,
    /// The authority that signed the server's certificate, and another.
    authority: String,
    stranger: String,
}

fn authority(name: &str) -> (Certificate, Issuer<'static, KeyPair>) {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().expect("a key");
    let certificate = params.self_signed(&key).expect("a certificate");
    (certificate, Issuer::new(params, key))
}

impl TlsServer {
    async fn new(programs: Programs) -> Self {
        let mut server = PrivateServer::new(programs, &["fsync=off"]);
        server.answers().await;
        let (ours, issuer) = authority("ours");
        let (stranger, _) = authority("a stranger");
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(["localhost".to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        let certificate = server.write("server.pem", &certificate.pem());
        let key = server.write("server.key", &key.serialize_pem());
        let path = |path: &Path| path.display().to_string();
        let authority = path(&server.write("authority.pem", &ours.pem()));
        let stranger = path(&server.write("stranger.pem", &stranger.pem()));
        server.write(
            "data/pg_hba.conf",
            "local all all trust\nhostssl all all 127.0.0.1/32 trust\nhostssl all all ::1/128 trust\n",
        );
        server.set(&[
            "ssl=on",
            &format!("ssl_cert_file={}", path(&certificate)),
            &format!("ssl_key_file={}", path(&key)),
        ]);
        let port = server.listen();
        server.stop(Stop::Fast);
        server.start();
        server.answers().await;
        Self { server, port, authority, stranger }
    }

    fn url(&self, host: &str, parameters: &str) -> String {
        format!("postgres://tests@{host}:{}/postgres?{parameters}", self.port)
    }
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_address_says_what_is_encrypted_and_whom_to_trust() {
    let Some(programs) = Programs::find() else { return };
    let server = TlsServer::new(programs).await;
    let (ours, stranger) = (&server.authority, &server.stranger);
    let encrypted = [
        ("127.0.0.1", String::new()),
        ("127.0.0.1", "sslmode=require".to_owned()),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={ours}")),
        ("localhost", format!("sslmode=verify-full&sslrootcert={ours}")),
    ];
    for (host, parameters) in encrypted {
        let store = Store::connect(&server.url(host, &parameters)).await;
        let store = store.unwrap_or_else(|error| panic!("{parameters}: {}", chain(&error)));
        let reader = store.reader();
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = reader.query_one_raw(Statement::from_string(reader.get_database_backend(), sql));
        let row = row.await.expect(sql).expect("a row");
        assert!(row.try_get::<bool>("", "ssl").expect("a column"), "{parameters}");
        store.close().await.expect("closed");
    }

    let refused = [
        // Nobody vouches for the server, or not for this name, or somebody else does.
        ("localhost", "sslmode=verify-full".to_owned(), "UnknownIssuer"),
        ("localhost", format!("sslmode=verify-full&sslrootcert={stranger}"), "UnknownIssuer"),
        ("127.0.0.1", format!("sslmode=verify-ca&sslrootcert={stranger}"), "UnknownIssuer"),
        ("127.0.0.1", format!("sslmode=verify-full&sslrootcert={ours}"), "not valid for name"),
        // The server takes nothing in the clear.
        ("127.0.0.1", "sslmode=disable".to_owned(), "no encryption"),
        ("127.0.0.1", "sslmode=verify-ca&sslrootcert=nowhere.pem".to_owned(), "No such file"),
    ];
    for (host, parameters, reason) in refused {
        let store = Store::connect(&server.url(host, &parameters)).await;
        let error = store.err().unwrap_or_else(|| panic!("{parameters}: not refused"));
        assert!(chain(&error).contains(reason), "{parameters}: {}", chain(&error));
    }
    // Where the server has no TLS, what asks for it does not go on without.
    let plain = server.server.url("postgres").replace("?host=", "?sslmode=require&host=");
    let error = Store::connect(&plain).await.expect_err("a unix socket has none");
    assert!(chain(&error).contains("does not support TLS"), "{}", chain(&error));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_runs_over_tls_and_the_arena_says_why_a_server_is_not_trusted() {
    let Some(programs) = Programs::find() else { return };
    let server = TlsServer::new(programs).await;
    let trusted = format!("sslmode=verify-full&sslrootcert={}", server.authority);
    let store = Store::connect(&server.url("localhost", &trusted)).await.expect("trusted");
    migration::up(store.reader(), &[List::of::<SchedulerMigrator>()]).await.expect("migrated");
    let mut scheduler = Scheduler::new(store);
    let definition = JobDefinition::new("mark", Cadence::every(Duration::from_secs(60)));
    let job = |_: JobContext| async { Ok(RunSummary::new()) };
    scheduler.register(definition, job).expect("registered");
    let report = scheduler.run_once("mark", Duration::ZERO, &Shutdown::default()).await;
    assert_eq!(report.expect("ran").status, RunStatus::Succeeded);

    let untrusted = format!("sslmode=verify-full&sslrootcert={}", server.stranger);
    for (parameters, code, words) in [(trusted, 0, ""), (untrusted, 2, "UnknownIssuer")] {
        let answer = Command::new(env!("CARGO_BIN_EXE_arena-under-test"))
            .args(["db", "status"])
            .env("DATABASE_URL", server.url("localhost", &parameters))
            .output()
            .expect("the arena runs");
        let told = String::from_utf8_lossy(&answer.stderr);
        assert_eq!(answer.status.code(), Some(code), "{parameters}: {told}");
        assert!(told.contains(words), "{parameters}: {told}");
        assert!(!told.contains("tests@"), "an address shows no user: {told}");
    }
}
