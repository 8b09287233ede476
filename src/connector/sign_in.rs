//! Basic authentication, in whichever protocol's header it stands.

use crate::envelope::base64;
use crate::secret::Secret;

/// Returns the value of `Authorization` for a user.
///
/// # Errors
/// A user's name that basic authentication cannot send.
pub(super) fn basic(username: &str, password: &Secret<String>) -> Result<String, String> {
    if username.contains(':') {
        return Err("`auth.basic.username` holds a `:`, which basic authentication cannot send".to_owned());
    }
    Ok(format!("Basic {}", base64::encode(format!("{username}:{}", password.expose()).as_bytes())))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 7617, section 2.
    #[test]
    fn as_in_the_rfc() {
        let password = Secret::new("open sesame".to_owned());
        assert_eq!(basic("Aladdin", &password).unwrap(), "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(basic("Ala:ddin", &password).is_err());
    }
}
