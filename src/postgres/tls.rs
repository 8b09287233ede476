//! TLS to PostgreSQL: the server's certificate is always checked, against the public roots and the outbox's own.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::Error;

/// Makes the connector; ring, whatever else is in the process.
///
/// # Errors
/// [`Error::Certificates`].
pub(super) fn connector(ca: Option<&[u8]>) -> Result<MakeRustlsConnect, Error> {
    let wrong = |why: String| Error::Certificates(why);
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(pem) = ca {
        let read = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>();
        let certificates = read.map_err(|error| wrong(error.to_string()))?;
        if certificates.is_empty() {
            return Err(wrong("the file holds none".to_owned()));
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| wrong(error.to_string()))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates() {
        let own = include_bytes!("../../tests/it/tls/ca.pem");
        type Row<'r> = (&'r str, Option<&'r [u8]>, Option<&'r str>);
        let rows: [Row<'_>; 4] = [
            ("the public ones", None, None),
            ("its own", Some(own), None),
            ("none", Some(b"nothing"), Some("the file holds none")),
            ("half a one", Some(&own[..200]), Some("certificates cannot be used")),
        ];
        for (why, ca, part) in rows {
            let made = connector(ca).err().map(|error| error.to_string());
            assert_eq!(made.is_some(), part.is_some(), "{why}: {made:?}");
            assert!(made.is_none_or(|made| part.is_some_and(|part| made.contains(part))), "{why}");
        }
    }
}
