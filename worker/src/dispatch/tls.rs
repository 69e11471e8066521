//! Whom connections to targets trust: the system's certificate authorities, or those of a file.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{CertificateError, ClientConfig, RootCertStore};

/// Makes TLS configurations; the system's authorities are read once, when they are first needed.
pub(crate) struct Trust {
    system: Mutex<Option<Arc<ClientConfig>>>,
}

impl Trust {
    pub(crate) fn new() -> Self {
        Self { system: Mutex::new(None) }
    }

    /// A configuration that trusts the authorities in a PEM file, or without one the system's.
    ///
    /// # Errors
    /// A sentence without a path.
    pub(crate) fn client(&self, ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
        match ca_file {
            // Read anew each time a connection is made, which is seldom: authorities are rotated in place.
            Some(path) => Ok(trusting(roots_of_file(path)?)),
            None => {
                let mut system = self.system.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(config) = &*system {
                    return Ok(config.clone());
                }
                let config = trusting(roots_of_system()?);
                *system = Some(config.clone());
                Ok(config)
            }
        }
    }
}

/// A configuration that trusts the system's authorities and those of a PEM file beside them.
///
/// # Errors
/// A sentence without a path.
pub(crate) fn system_and(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = ca_file.map(roots_of_file).transpose()?.unwrap_or_else(RootCertStore::empty);
    // None at all is no reason not to start: targets without TLS need none.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    Ok(trusting(roots))
}

/// A configuration that trusts the authorities of a PEM file and nobody else.
///
/// # Errors
/// A sentence without a path.
pub(crate) fn file_alone(ca_file: &Path) -> Result<Arc<ClientConfig>, String> {
    Ok(trusting(roots_of_file(ca_file)?))
}

/// Why TLS was not agreed on, for people.
pub(crate) fn describe(error: &rustls::Error) -> String {
    use CertificateError::{
        BadEncoding, Expired, ExpiredContext, NotValidForName, NotValidForNameContext, NotValidYet, NotValidYetContext,
        Revoked, UnknownIssuer,
    };
    let sentence = match error {
        rustls::Error::InvalidCertificate(certificate) => match certificate {
            Expired | ExpiredContext { .. } => "its certificate has expired",
            NotValidYet | NotValidYetContext { .. } => "its certificate is not valid yet",
            NotValidForName | NotValidForNameContext { .. } => "its certificate is for another name",
            UnknownIssuer => "its certificate is of an issuer that is not known here, or its own",
            Revoked => "its certificate was revoked",
            BadEncoding => "its certificate cannot be read",
            _ => return format!("its certificate is not accepted: {certificate:?}"),
        },
        rustls::Error::InvalidMessage(_) => "what answers does not speak TLS",
        rustls::Error::PeerIncompatible(_) => "it offers no version or cipher of TLS that is taken here",
        rustls::Error::AlertReceived(alert) => return format!("it ended TLS: {alert:?}"),
        _ => return error.to_string(),
    };
    sentence.to_owned()
}

fn trusting(roots: RootCertStore) -> Arc<ClientConfig> {
    Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth())
}

fn roots_of_system() -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let (added, _unreadable) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 { Err("this machine has no certificate authorities".to_owned()) } else { Ok(roots) }
}

fn roots_of_file(path: &Path) -> Result<RootCertStore, String> {
    let unreadable = |_| "the file of certificate authorities cannot be read".to_owned();
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(unreadable)? {
        let certificate = certificate.map_err(unreadable)?;
        roots.add(certificate).map_err(|_| "the file of certificate authorities holds one that is none".to_owned())?;
    }
    if roots.is_empty() { Err("the file of certificate authorities is empty".to_owned()) } else { Ok(roots) }
}
