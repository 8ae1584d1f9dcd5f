//! A small API server on loopback: lists in pages, watches with bookmarks, and the failures of real servers.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

/// Objects per page, whatever the client requests.
const PAGE: usize = 2;

/// How the server fails requests for a resource.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// Answers with this status.
    Status(u16),
    /// Never answers.
    Hang,
    /// Answers with half an object.
    Garbage,
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) path: String,
    pub(super) query: HashMap<String, String>,
    pub(super) authorization: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) body: Vec<u8>,
}

#[derive(Debug, Default)]
struct World {
    version: u64,
    /// Changes before this one are compacted.
    oldest: u64,
    objects: BTreeMap<(String, String), Value>,
    log: Vec<(u64, String, Value)>,
    faults: HashMap<String, Fault>,
    /// Counts how often all watches were cut.
    cuts: u64,
    seen: Vec<Seen>,
    review: Value,
}

/// The server. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct FakeApi {
    world: Arc<Mutex<World>>,
    changed: watch::Sender<u64>,
    address: SocketAddr,
}

impl FakeApi {
    /// Starts it on a free port.
    pub(super) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let api = Self {
            world: Arc::default(),
            changed: watch::Sender::new(0),
            address: listener.local_addr().unwrap(),
        };
        let router = Router::new().fallback(answer).with_state(api.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        api
    }

    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn with<T>(&self, change: impl FnOnce(&mut World) -> T) -> T {
        let result = change(&mut self.world.lock().unwrap());
        self.changed.send_modify(|version| *version += 1);
        result
    }

    /// Adds or changes an object.
    pub(super) fn put(&self, plural: &str, mut object: Value) {
        self.with(|world| {
            world.version += 1;
            object["metadata"]["resourceVersion"] = json!(world.version.to_string());
            let key = (plural.to_owned(), object["metadata"]["name"].to_string());
            let kind = if world.objects.contains_key(&key) {
                "MODIFIED"
            } else {
                "ADDED"
            };
            let event = json!({"type": kind, "object": object});
            world.log.push((world.version, plural.to_owned(), event));
            world.objects.insert(key, object);
        });
    }

    /// Removes an object.
    pub(super) fn delete(&self, plural: &str, name: &str) {
        self.with(|world| {
            world.version += 1;
            let key = (plural.to_owned(), json!(name).to_string());
            let mut object = world.objects.remove(&key).unwrap();
            object["metadata"]["resourceVersion"] = json!(world.version.to_string());
            let event = json!({"type": "DELETED", "object": object});
            world.log.push((world.version, plural.to_owned(), event));
        });
    }

    /// Sends a bookmark to the watches of a resource; returns its version.
    pub(super) fn bookmark(&self, plural: &str) -> String {
        self.with(|world| {
            world.version += 1;
            let version = world.version.to_string();
            let object =
                json!({"kind": "X", "apiVersion": "v1", "metadata": {"resourceVersion": version}});
            let event = json!({"type": "BOOKMARK", "object": object});
            world.log.push((world.version, plural.to_owned(), event));
            version
        })
    }

    /// Compacts all changes so far and cuts the watches: clients must list again.
    pub(super) fn forget(&self) {
        self.with(|world| {
            world.version += 1;
            world.oldest = world.version;
            world.log.clear();
            world.cuts += 1;
        });
    }

    /// Ends all open watches.
    pub(super) fn cut(&self) {
        self.with(|world| world.cuts += 1);
    }

    /// Sets whether and how requests for a resource fail from now on.
    pub(super) fn fail(&self, plural: &str, fault: Option<Fault>) {
        self.with(|world| match fault {
            Some(fault) => world.faults.insert(plural.to_owned(), fault),
            None => world.faults.remove(plural),
        });
    }

    /// Sets the answer to the next token reviews.
    pub(super) fn review(&self, answer: Value) {
        self.with(|world| world.review = answer);
    }

    /// Returns the requests whose path ends with `end`.
    pub(super) fn seen(&self, plural: &str) -> Vec<Seen> {
        let world = self.world.lock().unwrap();
        let seen = world.seen.iter().filter(|seen| seen.path.ends_with(plural));
        seen.cloned().collect()
    }
}

fn reply(status: u16, body: &Value) -> Response {
    let reply = Response::builder()
        .status(status)
        .header("content-type", "application/json");
    reply.body(Body::from(body.to_string())).unwrap()
}

fn refusal(code: u16) -> Value {
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
           "message": format!("refused with {code}"), "reason": "Test", "metadata": {}})
}

fn header(request: &Request, name: &str) -> Option<String> {
    let value = request.headers().get(name)?;
    Some(value.to_str().unwrap().to_owned())
}

async fn answer(State(api): State<FakeApi>, request: Request) -> Response {
    let query = request.uri().query().unwrap_or_default().to_owned();
    let path = request.uri().path().to_owned();
    let authorization = header(&request, "authorization");
    let content_type = header(&request, "content-type");
    let body = request.into_body().collect().await.unwrap();
    let body = body.to_bytes().to_vec();
    let query = form_urlencoded::parse(query.as_bytes())
        .into_owned()
        .collect();
    let seen = Seen {
        path,
        query,
        authorization,
        content_type,
        body,
    };
    let plural = seen.path.rsplit('/').next().unwrap().to_owned();
    let fault = api.with(|world| {
        world.seen.push(seen.clone());
        world.faults.get(&plural).copied()
    });
    match fault {
        Some(Fault::Status(code)) => return reply(code, &refusal(code)),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::Garbage) => return Response::new(Body::from(r#"{"items": [{"metadata""#)),
        None => {}
    }
    if plural == "tokenreviews" {
        return reply(201, &api.with(|world| world.review.clone()));
    }
    if plural == "tidemark-ca" {
        return reply(200, &json!({"kind": "ConfigMap"}));
    }
    if seen.query.contains_key("watch") {
        let after = seen
            .query
            .get("resourceVersion")
            .map_or(0, |text| text.parse().unwrap());
        return Response::new(Body::from_stream(events(api, plural, after)));
    }
    reply(200, &list(&api, &plural, seen.query.get("continue")))
}

fn list(api: &FakeApi, plural: &str, token: Option<&String>) -> Value {
    let skip: usize = token.map_or(0, |token| token.parse().unwrap());
    let world = api.world.lock().unwrap();
    let all = world
        .objects
        .iter()
        .filter(|((of, _), _)| of == plural)
        .map(|(_, object)| object);
    let all: Vec<&Value> = all.collect();
    let page: Vec<&Value> = all.iter().copied().skip(skip).take(PAGE).collect();
    let mut metadata = json!({"resourceVersion": world.version.to_string()});
    if skip + PAGE < all.len() {
        metadata["continue"] = json!((skip + PAGE).to_string());
    }
    json!({"kind": "List", "apiVersion": "v1", "metadata": metadata, "items": page})
}

/// Sends one line per event, until the watches are cut.
fn events(
    api: FakeApi,
    plural: String,
    after: u64,
) -> impl futures_util::Stream<Item = Result<Bytes, Infallible>> + Send {
    let changed = api.changed.subscribe();
    let cuts = api.world.lock().unwrap().cuts;
    let state = (api, changed, after, false);
    futures_util::stream::unfold(state, move |(api, mut changed, mut after, over)| {
        let plural = plural.clone();
        async move {
            if over {
                return None;
            }
            loop {
                changed.borrow_and_update();
                let (lines, over) = {
                    let world = api.world.lock().unwrap();
                    if after < world.oldest {
                        let gone = json!({"type": "ERROR", "object": refusal(410)});
                        (format!("{gone}\n"), true)
                    } else {
                        let new = world.log.iter();
                        let new = new.filter(|(version, of, _)| *version > after && *of == plural);
                        let lines: String = new.map(|(_, _, event)| format!("{event}\n")).collect();
                        after = world.version;
                        (lines, world.cuts != cuts)
                    }
                };
                if !lines.is_empty() {
                    return Some((Ok(Bytes::from(lines)), (api, changed, after, over)));
                }
                if over {
                    return None;
                }
                changed.changed().await.ok()?;
            }
        }
    })
}
