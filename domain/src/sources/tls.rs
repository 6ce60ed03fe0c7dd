//! TLS for the public hosts: the roots that browsers trust, ring for the arithmetic.

use rustls::{ClientConfig, RootCertStore};

/// A client's configuration: TLS 1.2 and 1.3, Mozilla's roots, no client certificate.
pub(crate) fn client_config() -> ClientConfig {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring supports the default versions")
        .with_root_certificates(roots)
        .with_no_client_auth()
}
