//! Signing in with a token that is fetched: one for many calls, a new one when it ends or is taken no more, and nothing
//! is sent without one.

use std::time::Duration;

use backstitch::connector::Connector;
use backstitch::connector::http::HttpConnector;
use backstitch::request::{Again, Effect};
use backstitch::secret::Secret;
use backstitch::service::{Auth, ClientCredentials, Service, ServiceUrl};

use crate::connector::{call, name};
use crate::connector_peer::{Peer, Play, answer, mute};

const LONG: Duration = Duration::from_secs(60);

fn token(text: &str, expires_in: u64) -> Play {
    let body = format!(r#"{{"access_token":"{text}","token_type":"Bearer","expires_in":{expires_in}}}"#);
    Play::Say(answer("200 OK", &["Content-Type: application/json"], &body))
}

fn says(status: &str) -> Play {
    Play::Say(answer(status, &["Content-Type: application/json"], "{}"))
}

fn connector(service: &Peer, token_url: &str) -> HttpConnector {
    let credentials = ClientCredentials {
        token_url: ServiceUrl::parse(token_url).unwrap(),
        client_id: "saga:1".to_owned(),
        client_secret: Secret::new("s3cret/ü".to_owned()),
        scopes: vec!["orders".to_owned(), "stock".to_owned()],
    };
    let url = ServiceUrl::parse(&format!("http://{}", service.address)).unwrap();
    HttpConnector::new([(name(), Service { auth: Some(Auth::OAuth2(credentials)), ..Service::at(url) })]).unwrap()
}

/// Returns what each request signed in with.
fn signed(peer: &Peer) -> Vec<String> {
    let line = |request: &String| {
        let line = request.lines().find_map(|line| line.strip_prefix("authorization: ").map(str::to_owned));
        line.unwrap_or_else(|| panic!("no authorization in {request}"))
    };
    peer.requests().iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_token_serves_until_it_is_taken_no_more() {
    let tokens = Peer::start([token("t1", 3_600), token("t2", 3_600), token("t3", 3_600)]).await;
    let plays = ["200 OK", "200 OK", "401 Unauthorized", "200 OK", "401 Unauthorized", "401 Unauthorized"];
    let service = Peer::start(plays.map(says)).await;
    let connector = connector(&service, &format!("http://{}/oauth/token", tokens.address));
    let expected = [
        ("fetched", Effect::Done, Again::No),
        ("used again", Effect::Done, Again::No),
        ("taken no more: it may be tried again", Effect::None, Again::Yes),
        ("with a new one", Effect::Done, Again::No),
        ("that is taken no more either", Effect::None, Again::Yes),
        ("nor is one that was just fetched: a refusal", Effect::None, Again::No),
    ];
    for (why, effect, again) in expected {
        let attempt = connector.call(call(LONG)).await;
        assert_eq!((attempt.effect, attempt.again), (effect, again), "{why}: {attempt:?}");
    }
    assert_eq!(signed(&service), ["t1", "t1", "t1", "t2", "t2", "t3"].map(|token| format!("Bearer {token}")));
    let asked = tokens.requests();
    assert_eq!(asked.len(), 3);
    assert!(asked[0].starts_with("POST /oauth/token HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].ends_with("\r\n\r\ngrant_type=client_credentials&scope=orders+stock"), "{}", asked[0]);
    // `saga%3A1:s3cret%2F%C3%BC`
    assert_eq!(signed(&tokens)[0], "Basic c2FnYSUzQTE6czNjcmV0JTJGJUMzJUJD");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_has_ended_is_fetched_again_and_many_calls_fetch_one() {
    let tokens = Peer::start([token("short", 0), token("long", 3_600)]).await;
    let service = Peer::start([says("200 OK")]).await;
    let connector = connector(&service, &format!("http://{}/", tokens.address));
    assert_eq!(connector.call(call(LONG)).await.effect, Effect::Done);
    let calls = (0..20).map(|_| connector.call(call(LONG)));
    let attempts = futures_util::future::join_all(calls).await;
    assert!(attempts.iter().all(|attempt| attempt.effect == Effect::Done), "{attempts:?}");
    assert_eq!(tokens.requests().len(), 2);
    let mut signed = signed(&service);
    assert_eq!((signed.len(), signed.remove(0).as_str()), (21, "Bearer short"));
    assert!(signed.iter().all(|one| one == "Bearer long"), "{signed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_nothing_is_sent() {
    let service = Peer::start([says("200 OK")]).await;
    let refused = r#"{"error":"invalid_client","error_description":"nobody knows saga"}"#;
    let plays = [
        Play::Say(answer("401 Unauthorized", &["Content-Type: application/json"], refused)),
        Play::Say(answer("200 OK", &["Content-Type: text/html"], "<p>Log in")),
        Play::SayAndReset(Vec::new()),
        token("at last", 3_600),
    ];
    let tokens = Peer::start(plays).await;
    let connector_here = connector(&service, &format!("http://{}/token", tokens.address));
    for part in ["it answers 401: invalid_client: nobody knows saga", "no `access_token`", "no token from http://"] {
        let attempt = connector_here.call(call(LONG)).await;
        assert_eq!((attempt.effect, attempt.again), (Effect::None, Again::Yes), "{part}");
        let told = format!("{:?}", attempt.problem);
        assert!(told.contains(part) && !told.contains("s3cret"), "{part}: {told}");
        assert!(service.requests().is_empty(), "{part}");
    }
    assert_eq!(connector_here.call(call(LONG)).await.effect, Effect::Done);

    let (silent, _held) = mute().await;
    let attempt = connector(&service, &format!("http://{silent}/token")).call(call(Duration::from_millis(300))).await;
    assert_eq!((attempt.effect, attempt.again), (Effect::None, Again::Yes), "the time was over before anything left");
    assert_eq!(service.requests().len(), 1);
}
