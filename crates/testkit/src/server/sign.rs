//! AWS signature version 4, checked: the key, the region, every signed header and the payload's hash.
//!
//! After "Authenticating Requests (AWS Signature Version 4)" of the S3 API reference.

use data_encoding::HEXLOWER;
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};

use super::text::{encode, query};
use super::{Config, Request};

/// Why a request is refused: S3 code and message.
pub(super) type Refusal = (&'static str, String);

/// Checks a request's signature. `path` is the path as it was sent.
pub(super) fn check(config: &Config, request: &Request, path: &str) -> Result<(), Refusal> {
    let missing = || ("AccessDenied", "the request is not signed".to_owned());
    let authorization = request.header("authorization").ok_or_else(missing)?;
    let fields = authorization.strip_prefix("AWS4-HMAC-SHA256 ").ok_or_else(missing)?;
    let field = |name: &str| {
        let found = fields.split(',').find_map(|field| {
            field.trim().strip_prefix(name).and_then(|rest| rest.strip_prefix('='))
        });
        found.ok_or_else(missing)
    };
    let (credential, signed, signature) =
        (field("Credential")?, field("SignedHeaders")?, field("Signature")?);
    let (key_id, scope) = credential.split_once('/').ok_or_else(missing)?;
    if key_id != config.key_id {
        return Err(("InvalidAccessKeyId", "Malformed Access Key Id".to_owned()));
    }
    let [day, region, service, end] = scope.split('/').collect::<Vec<_>>()[..] else {
        return Err(missing());
    };
    if region != config.region {
        let expecting = format!("the region '{region}' is wrong; expecting '{}'", config.region);
        return Err(("AuthorizationHeaderMalformed", expecting));
    }
    let text = string_to_sign(request, path, signed, scope);
    let key = [day, region, service, end]
        .iter()
        .fold(format!("AWS4{}", config.secret).into_bytes(), |key, part| mac(&key, part));
    if HEXLOWER.encode(&mac(&key, &text)) == signature {
        Ok(())
    } else {
        Err(("SignatureDoesNotMatch", "Signature validation failed".to_owned()))
    }
}

fn string_to_sign(request: &Request, path: &str, signed: &str, scope: &str) -> String {
    let mut pairs: Vec<String> = query(&request.query)
        .iter()
        .map(|(name, value)| format!("{}={}", encode(name), encode(value)))
        .collect();
    pairs.sort_unstable();
    let header = |name: &str| request.header(name).unwrap_or("").trim().to_owned();
    let headers: Vec<String> =
        signed.split(';').map(|name| format!("{name}:{}", header(name))).collect();
    let canonical = format!(
        "{}\n{path}\n{}\n{}\n\n{signed}\n{}",
        request.method,
        pairs.join("&"),
        headers.join("\n"),
        header("x-amz-content-sha256")
    );
    let hash = HEXLOWER.encode(&Sha256::digest(canonical.as_bytes()));
    format!("AWS4-HMAC-SHA256\n{}\n{scope}\n{hash}", header("x-amz-date"))
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    // HMAC takes keys of any length.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(key) else { return Vec::new() };
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().to_vec()
}
