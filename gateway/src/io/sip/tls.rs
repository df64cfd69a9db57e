//! TLS for SIP: our certificate, and whom we believe.
//!
//! ```text
//!   sip.tls_certificate, sip.tls_key ──▶ server            trunk with a fingerprint ─▶ exactly this certificate
//!   neither ─▶ made once, in <store.dir>/tls               else ─▶ system's roots and sip.tls_ca, the trunk's host name
//! ```

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use sha2::{Digest, Sha256};
use talkstack_control::port::TrunkRoute;
use talkstack_control::secret::hex;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::io::connect::trusted_roots;
use crate::trunks::PeerName;

/// Who a peer must prove to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The host name or address that its certificate must be for.
    pub name: String,
    /// The SHA-256 fingerprint that its certificate must have, in 64 lower-case hex digits; then the name does not count.
    pub fingerprint: Option<String>,
}

impl PeerIdentity {
    /// Who a trunk must prove to be: the host or proxy by its name, never by what the DNS made of it (RFC 5922 §4).
    pub(super) fn of_trunk(trunk: &TrunkRoute) -> Self {
        PeerIdentity { name: PeerName::of(trunk).host, fingerprint: trunk.access.tls_fingerprint.clone() }
    }
}

/// What is set of TLS (`sip.tls_*`).
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// Our certificate and what it hangs from, and its key; `None` makes one in `dir`.
    pub own: Option<(PathBuf, PathBuf)>,
    /// Authorities whose certificates clients must show; `None` asks for none.
    pub client_ca: Option<PathBuf>,
    /// Authorities that we believe besides the system's.
    pub ca: Option<PathBuf>,
    /// Where a certificate of our own making lies.
    pub dir: PathBuf,
}

/// A file of TLS that cannot be used. The operator's to mend; the program exits 75.
#[derive(Debug, thiserror::Error)]
pub enum TlsFileError {
    /// It cannot be read or written.
    #[error("cannot use {path} ({source}); correct the path or its permissions")]
    File {
        /// Which.
        path: PathBuf,
        /// What the kernel says.
        source: std::io::Error,
    },
    /// It holds no certificate or key in PEM.
    #[error("{0} holds no certificate or key in PEM")]
    Pem(PathBuf),
    /// The certificate and the key do not go together, or an authority cannot be used.
    #[error("{path} cannot be used for TLS ({source})")]
    Unusable {
        /// Which.
        path: PathBuf,
        /// What rustls says.
        source: Error,
    },
    /// No certificate could be made.
    #[error("no certificate could be made ({0})")]
    Make(#[from] rcgen::Error),
}

/// Why a connection under TLS did not come to be.
#[derive(Debug, thiserror::Error, Clone, Copy, PartialEq, Eq)]
pub enum TlsFault {
    /// The certificate is for another name.
    #[error(
        "the peer's certificate is for another name than the trunk's host; correct the host, or pin tls_fingerprint"
    )]
    NameMismatch,
    /// Nobody we believe has signed the certificate.
    #[error(
        "no authority that is known here has signed the peer's certificate; set sip.tls_ca, or pin tls_fingerprint"
    )]
    UnknownAuthority,
    /// The certificate's time is over, or has not begun.
    #[error("the peer's certificate has expired or is not valid yet; renew it, or correct the clock")]
    Expired,
    /// It is not the certificate that was pinned.
    #[error("the peer's certificate is not the one that tls_fingerprint names")]
    Fingerprint,
    /// The peer ends the handshake: it wants another version, or a certificate of ours.
    #[error("the peer refused the TLS handshake; it may want a client certificate")]
    Refused,
    /// What answers does not speak TLS.
    #[error("what answers on this port does not speak TLS")]
    NotTls,
    /// No answer in time, or the connection broke.
    #[error("the TLS handshake broke off")]
    Broken,
}

/// Our side of TLS.
#[derive(Clone)]
pub struct Tls {
    own: Option<Own>,
    roots: Arc<RootCertStore>,
}

/// Nothing of the key is printed.
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

/// What we show.
#[derive(Clone)]
struct Own {
    acceptor: TlsAcceptor,
    fingerprint: String,
}

impl Tls {
    /// Reads what connections that we make need: whom we believe.
    ///
    /// # Errors
    /// [`TlsFileError`].
    pub fn client(files: &TlsFiles) -> Result<Self, TlsFileError> {
        let roots = match &files.ca {
            None => trusted_roots(),
            Some(path) => store(path, trusted_roots())?,
        };
        Ok(Tls { own: None, roots: Arc::new(roots) })
    }

    /// The same, and what connections that come need: our certificate, made for `names` where no file has one.
    ///
    /// # Errors
    /// [`TlsFileError`].
    pub fn open(files: &TlsFiles, names: &[String]) -> Result<Self, TlsFileError> {
        let (certificate, key) = match &files.own {
            Some((certificate, key)) => (certificate.clone(), key.clone()),
            None => make(&files.dir, names)?,
        };
        let chain = certificates(&certificate)?;
        let private = PrivateKeyDer::from_pem_file(&key).map_err(|_| TlsFileError::Pem(key.clone()))?;
        let fingerprint = chain.first().map(|leaf| fingerprint(leaf)).unwrap_or_default();
        let unusable = |path: &Path| {
            let path = path.to_owned();
            move |source| TlsFileError::Unusable { path, source }
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(unusable(&certificate))?;
        let builder = match &files.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let roots = Arc::new(store(path, RootCertStore::empty())?);
                let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider()).build();
                let refused = |_| TlsFileError::Pem(path.clone());
                builder.with_client_cert_verifier(verifier.map_err(refused)?)
            }
        };
        let server = builder.with_single_cert(chain, private).map_err(unusable(&certificate))?;
        let own = Own { acceptor: TlsAcceptor::from(Arc::new(server)), fingerprint };
        Ok(Tls { own: Some(own), ..Tls::client(files)? })
    }

    /// What connections that come are taken by.
    pub(super) fn acceptor(&self) -> Option<TlsAcceptor> {
        self.own.as_ref().map(|own| own.acceptor.clone())
    }

    /// The SHA-256 fingerprint of our certificate, in hex digits; nothing where we show none.
    pub fn fingerprint(&self) -> Option<&str> {
        self.own.as_ref().map(|own| own.fingerprint.as_str())
    }

    /// Begins TLS on a connection that was made to `peer`.
    ///
    /// # Errors
    /// [`TlsFault`].
    pub(super) async fn connect(
        &self,
        stream: TcpStream,
        peer: &PeerIdentity,
    ) -> Result<TlsStream<TcpStream>, TlsFault> {
        let name = ServerName::try_from(peer.name.trim_matches(['[', ']']).to_owned());
        // A name that no certificate can be for may still be pinned.
        let name = name.or_else(|_| ServerName::try_from("pinned.invalid")).map_err(|_| TlsFault::NameMismatch)?;
        let builder = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|_| TlsFault::Broken)?;
        let config = match &peer.fingerprint {
            None => builder.with_root_certificates(Arc::clone(&self.roots)).with_no_client_auth(),
            Some(fingerprint) => {
                let verifier = Arc::new(Pinned { fingerprint: fingerprint.clone(), provider: provider() });
                builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
            }
        };
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        connected.map_err(|error| fault(&error))
    }
}

/// What a failed handshake means.
fn fault(error: &std::io::Error) -> TlsFault {
    match error.get_ref().and_then(|source| source.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(certificate)) => match certificate {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                TlsFault::NameMismatch
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => TlsFault::Expired,
            CertificateError::ApplicationVerificationFailure => TlsFault::Fingerprint,
            _ => TlsFault::UnknownAuthority,
        },
        Some(Error::AlertReceived(_)) => TlsFault::Refused,
        Some(Error::InvalidMessage(_) | Error::InappropriateMessage { .. }) => TlsFault::NotTls,
        _ => TlsFault::Broken,
    }
}

/// Believes one certificate, whoever signed it and whatever it says.
#[derive(Debug)]
struct Pinned {
    fingerprint: String,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if fingerprint(leaf) == self.fingerprint {
            return Ok(ServerCertVerified::assertion());
        }
        Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        leaf: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, leaf, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// The SHA-256 fingerprint of a certificate, in lower-case hex digits.
fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    hex(&Sha256::digest(certificate))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let text = std::fs::read(path).map_err(|source| TlsFileError::File { path: path.to_owned(), source })?;
    let found: Vec<_> = CertificateDer::pem_slice_iter(&text).collect::<Result<_, _>>().unwrap_or_default();
    if found.is_empty() { Err(TlsFileError::Pem(path.to_owned())) } else { Ok(found) }
}

fn store(path: &Path, mut roots: RootCertStore) -> Result<RootCertStore, TlsFileError> {
    for certificate in certificates(path)? {
        let refused = |source| TlsFileError::Unusable { path: path.to_owned(), source };
        roots.add(certificate).map_err(refused)?;
    }
    Ok(roots)
}

/// A certificate of our own making: made once, then read. The key is written first, so that a certificate that is
/// there has its key.
fn make(dir: &Path, names: &[String]) -> Result<(PathBuf, PathBuf), TlsFileError> {
    let (certificate, key) = (dir.join("sip.crt"), dir.join("sip.key"));
    if certificate.exists() {
        return Ok((certificate, key));
    }
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsFileError::File { path, source }
    };
    std::fs::create_dir_all(dir).map_err(failed(dir))?;
    let made = rcgen::generate_simple_self_signed(names.to_vec())?;
    write_private(&key, &made.signing_key.serialize_pem()).map_err(failed(&key))?;
    write_private(&certificate, &made.cert.pem()).map_err(failed(&certificate))?;
    Ok((certificate, key))
}

/// Whole or not at all, and for our eyes only.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(temporary, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_made_once_and_its_key_is_private() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let files = TlsFiles { dir: dir.path().join("tls"), ..TlsFiles::default() };
        let names = ["box.example".to_owned(), "127.0.0.1".to_owned()];
        let first = Tls::open(&files, &names).expect("made");
        let again = Tls::open(&files, &names).expect("read");
        assert_eq!(first.fingerprint().map(str::len), Some(64));
        assert_eq!(first.fingerprint(), again.fingerprint());
        let mode = std::fs::metadata(files.dir.join("sip.key")).expect("written").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_file_that_cannot_be_used_is_named() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("empty.pem");
        std::fs::write(&path, "no certificate").expect("written");
        let files = TlsFiles { own: Some((path.clone(), path.clone())), ..TlsFiles::default() };
        let error = Tls::open(&files, &[]).expect_err("refused");
        assert!(error.to_string().contains("empty.pem"), "{error}");
        let gone = TlsFiles { own: Some((dir.path().join("gone"), path)), ..TlsFiles::default() };
        assert!(matches!(Tls::open(&gone, &[]).err(), Some(TlsFileError::File { .. })));
    }
}
