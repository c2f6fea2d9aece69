//! What is logged: enough to follow a request, never what is secret (fs C15).
#![allow(clippy::unwrap_used, reason = "helpers of tests panic as tests do")]

mod support;

use std::io::Write;
use std::sync::{Arc, Mutex};

use support::{Fake, Fault};
use tracing_subscriber::fmt::format::FmtSpan;
use zk_client::{Client, ErrorKind, OpCode};

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn fs_c15_requests_can_be_followed_and_secrets_are_not_shown() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::CLOSE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let fake = Fake::start().await;
    let client = Client::builder(fake.address.to_string())
        .unwrap()
        .auth("digest", "bob:hunter2")
        .connect()
        .await
        .unwrap();
    client.add_auth("digest", "eve:hunter3").await.unwrap();
    client.create("/followed", "node-content").await.unwrap();
    fake.fault(OpCode::SET_DATA, Fault::CutAfter);
    let error = client
        .set_data("/followed", "other-content")
        .send()
        .await
        .unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ConnectionLost));
    client.get_data("/followed").await.unwrap();
    let session = client.session_id();
    client.close().await.unwrap();
    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let created = text
        .lines()
        .find(|line| line.contains("zk_request") && line.contains("create2"))
        .unwrap_or_else(|| panic!("{text}"));
    for part in [
        "path=\"/followed\"",
        &format!("session={session:?}"),
        "xid=",
        "zxid=",
    ] {
        assert!(created.contains(part), "{part} in {created}");
    }
    assert!(
        text.contains("Suspended") && text.contains("connection lost"),
        "{text}"
    );
    for secret in ["hunter", "content", "bob"] {
        assert!(!text.contains(secret), "{secret} in {text}");
    }
}
