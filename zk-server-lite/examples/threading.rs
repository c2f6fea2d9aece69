//! What a thread hop costs: the measurement behind `docs/threading.md`.
//!
//! A server that answers every 100-byte request with 100 bytes, made in three ways, under two loads (one request at a
//! time; four connections with 64 in flight each): on the task that read it, under a mutex; by a task of its own on the
//! same runtime, over a channel; by a thread of its own, over a channel.
//!
//! `cargo run --release -p zk-server-lite --example threading`

#![allow(clippy::unwrap_used, reason = "a measurement ends where it fails")]

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, oneshot};

const SIZE: usize = 100;
const SPAN: Duration = Duration::from_secs(1);

/// The state that must be owned or locked: counted, so that it is not optimised away.
#[derive(Default)]
struct State {
    handled: u64,
}

impl State {
    /// As cheap as an answer can be: how many whole requests there are, as many answers.
    fn handle(&mut self, input: &mut Vec<u8>) -> Vec<u8> {
        let whole = input.len() / SIZE;
        self.handled += whole as u64;
        let output = input[..whole * SIZE].to_vec();
        input.drain(..whole * SIZE);
        output
    }
}

type Job = (Vec<u8>, oneshot::Sender<(Vec<u8>, Vec<u8>)>);

#[derive(Clone)]
enum Owner {
    Mutex(Arc<Mutex<State>>),
    Elsewhere(mpsc::Sender<Job>),
}

impl Owner {
    async fn handle(&self, mut input: Vec<u8>) -> (Vec<u8>, Vec<u8>) {
        match self {
            Self::Mutex(state) => {
                let output = state.lock().unwrap().handle(&mut input);
                (input, output)
            }
            Self::Elsewhere(jobs) => {
                let (answer, waits) = oneshot::channel();
                assert!(jobs.send((input, answer)).await.is_ok(), "the owner lives");
                waits.await.unwrap()
            }
        }
    }
}

async fn own(mut jobs: mpsc::Receiver<Job>) {
    let mut state = State::default();
    while let Some((mut input, answer)) = jobs.recv().await {
        let output = state.handle(&mut input);
        // A connection that is gone wants no answer.
        let _ = answer.send((input, output));
    }
}

fn serve(kind: &'static str) -> SocketAddr {
    let (address, bound) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async move {
            let owner = match kind {
                "mutex" => Owner::Mutex(Arc::default()),
                "task" => {
                    let (sender, jobs) = mpsc::channel(1024);
                    tokio::spawn(own(jobs));
                    Owner::Elsewhere(sender)
                }
                _ => {
                    let (sender, jobs) = mpsc::channel(1024);
                    std::thread::spawn(move || {
                        let runtime = tokio::runtime::Builder::new_current_thread()
                            .build()
                            .unwrap();
                        runtime.block_on(own(jobs));
                    });
                    Owner::Elsewhere(sender)
                }
            };
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            address.send(listener.local_addr().unwrap()).unwrap();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                stream.set_nodelay(true).unwrap();
                let owner = owner.clone();
                tokio::spawn(async move {
                    let mut input = Vec::with_capacity(64 << 10);
                    while matches!(stream.read_buf(&mut input).await, Ok(1..)) {
                        let (rest, output) = owner.handle(input).await;
                        input = rest;
                        input.reserve(64 << 10);
                        if stream.write_all(&output).await.is_err() {
                            return;
                        }
                    }
                });
            }
        });
    });
    bound.recv().unwrap()
}

/// Requests per second over `connections` with `window` in flight on each.
fn load(address: SocketAddr, connections: usize, window: usize) -> f64 {
    let begun = Instant::now();
    let total: usize = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..connections)
            .map(|_| {
                scope.spawn(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.set_nodelay(true).unwrap();
                    let batch = vec![7; SIZE * window];
                    let mut answers = vec![0; SIZE * window];
                    let mut done = 0;
                    while begun.elapsed() < SPAN {
                        stream.write_all(&batch).unwrap();
                        stream.read_exact(&mut answers).unwrap();
                        done += window;
                    }
                    done
                })
            })
            .collect();
        workers
            .into_iter()
            .map(|worker| worker.join().unwrap())
            .sum()
    });
    total as f64 / begun.elapsed().as_secs_f64()
}

fn main() {
    let kinds = ["mutex", "task", "thread"];
    let servers = kinds.map(serve);
    println!(
        "{:8} {:>14} {:>14} {:>14}",
        "owner", "1x1 req/s", "1x1 us", "4x64 req/s"
    );
    for round in 0..3 {
        for (kind, address) in kinds.iter().zip(servers) {
            let (single, many) = (load(address, 1, 1), load(address, 4, 64));
            println!(
                "{kind:8} {single:14.0} {:14.1} {many:14.0}   round {round}",
                1e6 / single
            );
        }
    }
}
