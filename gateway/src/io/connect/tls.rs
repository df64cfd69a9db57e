//! Whom to trust when an agent is behind TLS.

use std::sync::Arc;

use rustls::crypto::ring::default_provider;
use rustls::{ClientConfig, RootCertStore};

/// The configuration for all agents: Mozilla's roots, and the system's, or those of `SSL_CERT_FILE` where it is set.
///
/// # Errors
/// When the cryptography offers no protocol version, which ring does.
pub fn client_config() -> Result<Arc<ClientConfig>, rustls::Error> {
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(trusted_roots())
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Mozilla's roots, and the system's, or those of `SSL_CERT_FILE` where it is set.
pub fn trusted_roots() -> RootCertStore {
    let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let native = rustls_native_certs::load_native_certs();
    for error in &native.errors {
        tracing::warn!("A certificate that the system trusts cannot be read: {error}");
    }
    let (_, refused) = roots.add_parsable_certificates(native.certs);
    if refused > 0 {
        tracing::warn!(refused, "Certificates that the system trusts are left out: {refused}");
    }
    roots
}
