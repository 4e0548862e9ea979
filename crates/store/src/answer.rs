//! What an HTTP answer that is no success means: an error of ours, or a reason to try again.
//!
//! In: status, `Retry-After`, body. Out: a [`Verdict`]. Pure, so that every class has a test. B2 says
//! "bad key", "missing capability" and "cap reached" all with 403; only the body tells them apart.

use std::time::Duration;

use crate::retry::Failure;
use crate::{Error, Result};

/// Longest text of the storage that we repeat.
const DETAIL_CHARS_MAX: usize = 300;

/// An answer, as far as it matters for what comes next.
#[derive(Debug, Clone, Default)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) retry_after: Option<Duration>,
    /// `x-amz-bucket-region`.
    pub(crate) region: Option<String>,
    /// The body is HTML: a proxy, a captive portal or a web site answered, not a storage.
    pub(crate) web_page: bool,
    pub(crate) body: String,
}

/// What was asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) op: &'static str,
    pub(crate) name: &'a str,
    /// End of the range, where one was asked for.
    pub(crate) end: Option<u64>,
    pub(crate) address: &'a str,
}

/// What follows from an answer.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// Fail or try again.
    Failed(Failure),
    /// The request was signed for another region than the bucket's.
    WrongRegion(String),
}

/// Judges an answer that did not do what was asked.
pub(crate) fn judge(answer: &Answer, asked: Asked<'_>) -> Verdict {
    let code = answer.code().unwrap_or_default();
    if matches!(answer.status, 301 | 307 | 400)
        && !answer.web_page
        && let Some(region) = answer.region()
    {
        return Verdict::WrongRegion(region);
    }
    if answer.web_page {
        return Verdict::Failed(web_page(answer, asked));
    }
    let failed = match answer.status {
        401 | 403 if says_cap(&answer.body) => Failure::Final(cap(answer, asked)),
        401 | 403 => Failure::Final(denied(answer, asked)),
        404 => Failure::Final(missing(code, asked)),
        416 if asked.end.is_some() => Failure::Final(short(asked)),
        // The bytes did not arrive, or not as they were sent.
        400 if matches!(
            code,
            "RequestTimeout" | "IncompleteBody" | "BadDigest" | "XAmzContentSHA256Mismatch"
        ) =>
        {
            again(answer)
        }
        501 => Failure::Final(rejected(answer, asked)),
        // A redirect elsewhere: a captive portal, or Amazon moving a young bucket.
        302 | 303 | 307 | 308 | 408 | 409 | 429 | 500..=599 | 200..=299 => again(answer),
        _ => Failure::Final(rejected(answer, asked)),
    };
    Verdict::Failed(failed)
}

impl Answer {
    /// The S3 error code, or B2's native one.
    pub(crate) fn code(&self) -> Option<&str> {
        between(&self.body, "<Code>", "</Code>").or_else(|| json_text(&self.body, "code"))
    }

    fn message(&self) -> Option<&str> {
        between(&self.body, "<Message>", "</Message>").or_else(|| json_text(&self.body, "message"))
    }

    /// The region the storage wants, from the header or the body.
    pub(crate) fn region(&self) -> Option<String> {
        let region = match &self.region {
            Some(region) => region.as_str(),
            None => between(&self.body, "<Region>", "</Region>")?,
        };
        is_region(region).then(|| region.to_owned())
    }

    /// The storage's own words: status, code and message, nothing it may have echoed.
    pub(crate) fn detail(&self) -> String {
        let mut detail = self.status.to_string();
        if self.web_page {
            detail.push_str(" with a web page; is there a proxy or a captive portal?");
        } else if matches!(self.status, 300..=399) {
            detail.push_str(" with a redirect elsewhere; is there a captive portal?");
        }
        for part in [self.code(), self.message()].into_iter().flatten() {
            detail.push(' ');
            detail.extend(part.chars().map(|c| if c.is_control() { ' ' } else { c }));
        }
        match detail.char_indices().nth(DETAIL_CHARS_MAX) {
            Some((end, _)) => detail[..end].to_owned(),
            None => detail,
        }
    }
}

/// Whether `region` may go into a host name.
pub(crate) fn is_region(region: &str) -> bool {
    !region.is_empty() && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn again(answer: &Answer) -> Failure {
    Failure::Again { after: answer.retry_after, detail: answer.detail() }
}

fn web_page(answer: &Answer, asked: Asked<'_>) -> Failure {
    if matches!(answer.status, 408 | 429 | 200..=399 | 500..=599) && answer.status != 501 {
        again(answer)
    } else {
        let (op, name) = (asked.op, asked.name.to_owned());
        Failure::Final(Error::Unavailable { op, name, detail: answer.detail() })
    }
}

fn says_cap(body: &str) -> bool {
    let body = body.to_ascii_lowercase();
    ["cap exceeded", "cap_exceeded", "capexceeded", "quotaexceeded", "quota exceeded"]
        .iter()
        .any(|words| body.contains(words))
}

fn denied(answer: &Answer, asked: Asked<'_>) -> Error {
    Error::Denied { op: asked.op, name: asked.name.to_owned(), detail: answer.detail() }
}

fn cap(answer: &Answer, asked: Asked<'_>) -> Error {
    Error::CapReached { op: asked.op, name: asked.name.to_owned(), detail: answer.detail() }
}

fn rejected(answer: &Answer, asked: Asked<'_>) -> Error {
    Error::Rejected { op: asked.op, name: asked.name.to_owned(), detail: answer.detail() }
}

fn missing(code: &str, asked: Asked<'_>) -> Error {
    if asked.op == "get" && code != "NoSuchBucket" {
        Error::NotFound { name: asked.name.to_owned() }
    } else {
        let detail = "no such bucket".to_owned();
        Error::NoSuchStore { address: asked.address.to_owned(), detail }
    }
}

/// The object ends before the range does.
pub(crate) fn short(asked: Asked<'_>) -> Error {
    Error::Short { name: asked.name.to_owned(), end: asked.end.unwrap_or(0) }
}

/// Whether a listing came whole. A parser that ignores what it does not know reads an error or a
/// cut page as an empty listing, and an empty listing makes data look gone.
pub(crate) fn check_listing(body: &str) -> Result<(), &'static str> {
    let forms =
        [("ListBucketResult", "NextContinuationToken"), ("ListVersionsResult", "NextKeyMarker")];
    let is_whole = |root: &str| {
        body.contains(&format!("<{root}")) && body.trim_end().ends_with(&format!("</{root}>"))
    };
    let Some((_, next)) = forms.into_iter().find(|(root, _)| is_whole(root)) else {
        return Err("the answer is not a whole listing");
    };
    let goes_on = between(body, "<IsTruncated>", "</IsTruncated>").map(str::trim);
    let next = between(body, &format!("<{next}>"), &format!("</{next}>"));
    match (goes_on, next) {
        (Some("true"), None | Some("")) => Err("the listing goes on, but does not say where"),
        (Some("true" | "false"), _) => Ok(()),
        _ => Err("the listing does not say whether it goes on"),
    }
}

fn between<'a>(text: &'a str, open: &str, close: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(open)?;
    rest.split_once(close).map(|(inside, _)| inside)
}

/// The text of `"key": "..."`, good enough to show an error; nothing is decided by it but words.
fn json_text<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) = text.split_once(&format!("\"{key}\""))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    rest.split_once('"').map(|(inside, _)| inside)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(op: &'static str) -> Asked<'static> {
        Asked { op, name: "packs/1", end: (op == "get").then_some(9), address: "s3:x" }
    }

    fn answer(status: u16, code: &str, message: &str) -> Answer {
        let body = format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>");
        Answer { status, body, ..Answer::default() }
    }

    fn final_error(op: &'static str, answer: &Answer) -> Error {
        match judge(answer, asked(op)) {
            Verdict::Failed(Failure::Final(e)) => e,
            other => panic!("{answer:?} is not final: {other:?}"),
        }
    }

    fn is_retried(op: &'static str, answer: &Answer) -> bool {
        matches!(judge(answer, asked(op)), Verdict::Failed(Failure::Again { .. }))
    }

    #[test]
    fn three_kinds_of_403_are_told_apart() {
        let bad_key = answer(403, "InvalidAccessKeyId", "The key is not valid");
        assert!(matches!(final_error("put", &bad_key), Error::Denied { .. }));
        let capability = answer(403, "AccessDenied", "not entitled");
        let e = final_error("put", &capability);
        assert!(e.to_string().contains("AccessDenied not entitled"), "{e}");
        let cap = answer(403, "AccessDenied", "Transaction cap exceeded, see the Caps page");
        assert!(matches!(final_error("put", &cap), Error::CapReached { .. }));
        let native = Answer {
            status: 403,
            body: r#"{"code": "storage_cap_exceeded", "message": "Over", "status": 403}"#.into(),
            ..Answer::default()
        };
        let e = final_error("put", &native);
        assert!(matches!(&e, Error::CapReached { detail, .. } if detail.contains("Over")), "{e}");
    }

    #[test]
    fn a_missing_object_is_not_a_missing_bucket() {
        let key = answer(404, "NoSuchKey", "");
        assert!(matches!(final_error("get", &key), Error::NotFound { .. }));
        let bucket = answer(404, "NoSuchBucket", "");
        for op in ["get", "put", "list", "delete"] {
            assert!(matches!(final_error(op, &bucket), Error::NoSuchStore { .. }), "{op}");
        }
        assert!(matches!(final_error("list", &answer(404, "", "")), Error::NoSuchStore { .. }));
    }

    #[test]
    fn only_what_time_can_heal_is_tried_again() {
        for status in [200, 302, 307, 408, 409, 429, 500, 502, 503, 504] {
            assert!(is_retried("put", &answer(status, "X", "")), "{status}");
        }
        assert!(is_retried("put", &answer(400, "RequestTimeout", "")));
        for status in [301, 400, 401, 403, 404, 405, 411, 416, 501] {
            assert!(!is_retried("put", &answer(status, "X", "")), "{status}");
        }
        assert!(matches!(final_error("put", &answer(501, "X", "")), Error::Rejected { .. }));
    }

    #[test]
    fn the_wait_that_was_asked_for_is_passed_on() {
        let slow =
            Answer { retry_after: Some(Duration::from_secs(9)), ..answer(503, "SlowDown", "") };
        match judge(&slow, asked("put")) {
            Verdict::Failed(Failure::Again { after, detail }) => {
                assert_eq!(after, Some(Duration::from_secs(9)));
                assert_eq!(detail, "503 SlowDown ");
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_web_page_is_no_word_about_the_object() {
        let page = |status| Answer { status, web_page: true, ..Answer::default() };
        assert!(is_retried("get", &page(200)));
        for status in [403, 404] {
            let e = final_error("get", &page(status));
            assert!(matches!(&e, Error::Unavailable { .. }), "{status}: {e:?}");
            assert!(e.to_string().contains("captive portal"), "{e}");
        }
    }

    #[test]
    fn the_right_region_is_learnt_from_header_or_body() {
        let mut wrong = answer(400, "AuthorizationHeaderMalformed", "expecting 'eu-west-1'");
        wrong.body.push_str("<Region>eu-west-1</Region>");
        let region = |answer: &Answer| match judge(answer, asked("get")) {
            Verdict::WrongRegion(region) => Some(region),
            Verdict::Failed(_) => None,
        };
        assert_eq!(region(&wrong).as_deref(), Some("eu-west-1"));
        let moved =
            Answer { status: 301, region: Some("us-west-2".to_owned()), ..Answer::default() };
        assert_eq!(region(&moved).as_deref(), Some("us-west-2"));
        let evil = Answer { status: 301, region: Some("x.evil/#".to_owned()), ..Answer::default() };
        assert_eq!(region(&evil), None);
    }

    #[test]
    fn what_the_storage_echoes_is_not_repeated_and_cannot_move_the_cursor() {
        let mut echo = answer(403, "SignatureDoesNotMatch", "a\u{1b}[2Jb");
        echo.body.push_str("<StringToSign>secret</StringToSign>");
        let e = final_error("put", &echo).to_string();
        assert!(!e.contains("secret") && !e.contains('\u{1b}'), "{e}");
        let long = answer(403, "X", &"y".repeat(100_000));
        assert!(final_error("put", &long).to_string().len() < 500);
    }

    #[test]
    fn a_cut_or_foreign_listing_is_not_an_empty_one() {
        let whole =
            "<?xml?><ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>\n";
        assert!(check_listing(whole).is_ok());
        let more = whole.replace("false", "true");
        assert!(check_listing(&more).is_err());
        let token = "</IsTruncated><NextContinuationToken>x</NextContinuationToken>";
        assert!(check_listing(&more.replace("</IsTruncated>", token)).is_ok());
        for bad in ["", "<Error><Code>InternalError</Code></Error>", "<html></html>", &whole[..40]]
        {
            assert!(check_listing(bad).is_err(), "{bad}");
        }
    }
}
