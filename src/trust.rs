//! TLS as a client: whom to trust. The certificate of whoever answers is always checked.

use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

/// Makes a configuration that trusts the public roots (Mozilla's, built in) and certificates of one's own, and offers
/// these protocols inside. The cryptography is ring's, whatever else is in the process.
///
/// # Errors
/// One line about certificates that cannot be used.
pub fn client(ca: Option<&[u8]>, alpn: &[&[u8]]) -> Result<rustls::ClientConfig, String> {
    let mut roots = rustls::RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    if let Some(pem) = ca {
        let certificates: Vec<_> = CertificateDer::pem_slice_iter(pem)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("cannot read its certificates: {error}"))?;
        if certificates.is_empty() {
            return Err("its certificate file holds no certificate".to_owned());
        }
        for certificate in certificates {
            roots.add(certificate).map_err(|error| format!("cannot trust its certificate: {error}"))?;
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates() {
        type Row<'r> = (&'r str, Option<&'r [u8]>, Option<&'r str>);
        let own = include_bytes!("../tests/it/tls/ca.pem");
        let rows: [Row<'_>; 4] = [
            ("the public ones", None, None),
            ("its own", Some(own), None),
            ("none", Some(b"nothing"), Some("holds no certificate")),
            ("half a one", Some(&own[..200]), Some("cannot read its certificates")),
        ];
        for (why, ca, part) in rows {
            match (client(ca, &[b"http/1.1"]), part) {
                (Ok(config), None) => assert_eq!(config.alpn_protocols, [b"http/1.1"], "{why}"),
                (Err(error), Some(part)) => assert!(error.contains(part), "{why}: {error}"),
                (made, _) => panic!("{why}: {made:?}"),
            }
        }
    }
}
