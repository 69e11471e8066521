//! Whom connections to targets trust: the system's certificate authorities, or those of a file.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};

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
