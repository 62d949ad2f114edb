//! Claims on nodes of other processes, which own their resources.
//!
//! Who places a function on a node of another process sends what it decided on: the function by the hash of its
//! definition, and the version of the node's status. The node compares and sets as it does for its own router, and
//! calls name the function by the same hash. A function that it does not know it asks for, once, and makes ready as one
//! of its own where its [`GuestPolicy`] lets it. With a [`Puller`](crate::Puller) the definition names the code by its
//! hash; who claims has left it where the node pulls it from.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak, atomic::Ordering::Acquire},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::BoxFuture;
use scf_core::{
    Code, Envelope, Function, FunctionName, Handler, Health, InvokeError, NodeId, ObjectId, Resources, Revision,
    ScheduleError, Subject,
};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use crate::{fabric::Inner, flight::Flights, guest::GuestPolicy, route::Route, router::CLAIM_ATTEMPTS};

/// How long a node has to make a function ready that is new to it: pulling and compiling its code.
const PATIENCE: Duration = Duration::from_secs(60);
/// Definitions of others that a node knows by their hash; of those it has forgotten it is told again.
const KNOWN: usize = 4096;

/// BLAKE3 of a function's definition.
pub(crate) type Digest = [u8; 32];

/// The head of a request; its body is the function's definition, or nothing where the node should know it.
#[derive(Debug, Serialize, Deserialize)]
struct Request {
    digest: Digest,
    order: Order,
}

#[derive(Debug, Serialize, Deserialize)]
enum Order {
    /// Claim what the function needs, if nothing changed since this version of the status.
    Claim { version: u64 },
    /// Give back what was claimed for the function.
    Release,
}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// It is claimed: calls may come.
    Claimed,
    /// The status is another one.
    Conflict { free: Resources, health: Health, version: u64 },
    /// The node does not know the function.
    Unknown,
    /// The node can not run the function.
    Refused { why: String },
    /// It is given back.
    Released,
}

/// Functions of others that this process has made ready.
#[derive(Debug, Default)]
pub(crate) struct Guests {
    /// By the hash of their definition.
    known: Mutex<HashMap<Digest, (FunctionName, Revision)>>,
    /// Which nodes have claimed a revision on which member: it is given back with the last of them.
    claimants: Mutex<HashMap<Claim, BTreeSet<NodeId>>>,
    /// Those that are being made ready.
    adopting: Flights<Digest, Arc<Route>>,
    /// Which of them are.
    pub(crate) policy: GuestPolicy,
}

/// A revision of a function on a member.
type Claim = (usize, FunctionName, Revision);

impl Guests {
    /// None yet, and of those that `policy` accepts.
    pub(crate) fn new(policy: GuestPolicy) -> Self {
        Self { policy, ..Self::default() }
    }

    fn get(&self, digest: &Digest) -> Option<(FunctionName, Revision)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(digest).cloned()
    }

    fn put(&self, digest: Digest, function: FunctionName, revision: Revision) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= KNOWN {
            known.clear();
        }
        known.insert(digest, (function, revision));
    }

    fn claimed(&self, claim: Claim, by: &NodeId) {
        let mut claimants = self.claimants.lock().unwrap_or_else(PoisonError::into_inner);
        claimants.entry(claim).or_default().insert(by.clone());
    }

    /// Takes a claimant off; whether it was the last one.
    fn released(&self, claim: &Claim, by: &NodeId) -> bool {
        let mut claimants = self.claimants.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(of) = claimants.get_mut(claim) else { return false };
        of.remove(by);
        let is_last = of.is_empty();
        if is_last {
            claimants.remove(claim);
        }
        is_last
    }

    /// The revisions of functions of other processes.
    #[cfg(feature = "nats")]
    pub(crate) fn revisions(&self) -> std::collections::HashSet<(FunctionName, Revision)> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// What `node` has claimed.
    #[cfg(feature = "nats")]
    fn of(&self, node: &NodeId) -> Vec<Claim> {
        let claimants = self.claimants.lock().unwrap_or_else(PoisonError::into_inner);
        claimants.iter().filter(|(_, by)| by.contains(node)).map(|(claim, _)| claim.clone()).collect()
    }
}

/// What a claim came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claimed {
    Won,
    /// The node is not as it was thought to be.
    Lost,
    /// The node can not run the function, or it can not be left for it.
    Refused {
        why: String,
    },
    /// The node does not answer.
    Unanswered,
}

/// Answers claims on a member.
#[derive(Debug)]
pub(crate) struct ClaimServer {
    pub(crate) inner: Weak<Inner>,
    pub(crate) member: usize,
}

#[async_trait]
impl Handler for ClaimServer {
    async fn handle(&self, from: &NodeId, request: Envelope) -> Envelope {
        let Some(inner) = self.inner.upgrade() else { return Envelope::default() };
        let Ok(head) = postcard::from_bytes::<Request>(&request.head) else {
            tracing::warn!(%from, "dropped a message that is no claim");
            return Envelope::default();
        };
        let answer = inner.answer_claim(self.member, from, &head, &request.body).await;
        let head = postcard::to_stdvec(&answer).expect("an answer can be encoded");
        Envelope { head: head.into(), body: Bytes::new() }
    }
}

impl Inner {
    async fn answer_claim(
        self: &Arc<Self>,
        member: usize,
        from: &NodeId,
        request: &Request,
        definition: &Bytes,
    ) -> Answer {
        let found = match self.guest(&request.digest) {
            Some(route) => Ok(route),
            None if definition.is_empty() => return Answer::Unknown,
            None => self.guests.adopting.once(&request.digest, self.adopt(request.digest, definition)).await,
        };
        let route = match found {
            Ok(route) => route,
            Err(why) => return Answer::Refused { why },
        };
        let (function, owner) = (&route.function, &self.members[member]);
        let claim = (member, function.name.clone(), route.revision);
        match request.order {
            Order::Release => {
                self.release_guest(&claim, from);
                Answer::Released
            }
            Order::Claim { .. } if route.ready[member].is_none() => {
                Answer::Refused { why: format!("{} is not ready on {}", function.name, owner.node.id) }
            }
            Order::Claim { version } if owner.claim(function, route.revision, version) => {
                self.guests.claimed(claim, from);
                Answer::Claimed
            }
            Order::Claim { .. } => {
                let (free, health, version) = owner.free_for(function, route.revision);
                Answer::Conflict { free, health, version }
            }
        }
    }

    /// Gives back what `by` has claimed, unless others have claimed it too or calls that are made here go there.
    fn release_guest(&self, claim: &Claim, by: &NodeId) {
        let (member, function, revision) = claim;
        if !self.guests.released(claim, by) {
            return;
        }
        let Some(route) = self.find_revision(function, *revision) else { return };
        let epoch = self.epoch.load(Acquire);
        if !(0..self.members.len()).any(|from| route.placed(from, epoch) == Some(*member)) {
            self.members[*member].unclaim(&route.function, route.revision);
        }
    }

    /// Gives back what a node has claimed that is gone.
    #[cfg(feature = "nats")]
    pub(crate) fn release_guests_of(&self, node: &NodeId) {
        self.guests.of(node).iter().for_each(|claim| self.release_guest(claim, node));
    }

    /// Claims what a call needs on `node` of another process, which it names.
    pub(crate) async fn claim_target(&self, route: &Route, to: usize, node: &NodeId) -> Result<(), InvokeError> {
        let function = &route.function.name;
        let unreachable = || InvokeError::Unreachable { function: function.clone(), node: node.clone() };
        for _ in 0..CLAIM_ATTEMPTS {
            let status = self.peers.at(to).map(|peer| peer.status()).ok_or_else(unreachable)?;
            if status.health != Health::Ready {
                break;
            }
            match self.claim_abroad(route, to, status.version).await {
                Claimed::Won => return Ok(()),
                Claimed::Lost => {}
                Claimed::Refused { why } => {
                    let source = ScheduleError::Refused { node: node.clone(), why };
                    return Err(InvokeError::Unplaceable { function: function.clone(), source });
                }
                Claimed::Unanswered => break,
            }
        }
        Err(unreachable())
    }

    /// The function of another process that has this definition, as long as it is kept.
    pub(crate) fn guest(&self, digest: &Digest) -> Option<Arc<Route>> {
        let (function, revision) = self.guests.get(digest)?;
        self.find_revision(&function, revision)
    }

    /// Makes a function of another process ready. It takes calls that are made here where nothing of its name did.
    async fn adopt(self: &Arc<Self>, digest: Digest, definition: &Bytes) -> Result<Arc<Route>, String> {
        if let Some(route) = self.guest(&digest) {
            return Ok(route);
        }
        if *blake3::hash(definition).as_bytes() != digest {
            return Err("the definition is not the one of the hash".to_owned());
        }
        let function: Function = postcard::from_bytes(definition).map_err(|error| error.to_string())?;
        let name = function.name.clone();
        let revision = self.add_guest(function).await.map_err(|error| with_causes(&error))?;
        self.guests.put(digest, name.clone(), revision);
        self.find_revision(&name, revision).ok_or_else(|| format!("{name} was taken off at once"))
    }

    /// Claims what the function of `route` needs on a node of another process. What the node says of itself where the
    /// claim is lost is noted.
    pub(crate) async fn claim_abroad(&self, route: &Route, to: usize, version: u64) -> Claimed {
        let Some(peer) = self.peers.at(to) else { return Claimed::Unanswered };
        // Boxed and not named: a build that knows no other processes has none of it.
        let asked: BoxFuture<'_, _> = Box::pin(self.ask_claim(&peer.id, route, Order::Claim { version }));
        let refused = match asked.await {
            Ok(Some(Answer::Claimed)) => {
                route.note_abroad(to);
                return Claimed::Won;
            }
            Ok(Some(Answer::Conflict { free, health, version })) => {
                peer.correct(free, health, version);
                return Claimed::Lost;
            }
            Ok(Some(Answer::Refused { why })) | Err(why) => Claimed::Refused { why },
            Ok(_) => Claimed::Unanswered,
        };
        tracing::warn!(node = %peer.id, faas.name = %route.function.name, ?refused, "a claim was refused");
        refused
    }

    /// Gives back what was claimed on nodes of other processes, without waiting for it. A node that does not hear of it
    /// keeps it until it takes the claimant for gone.
    pub(crate) fn release_abroad(&self, route: &Route) {
        let abroad = route.forget_abroad();
        let (Some(transport), Ok(runtime)) = (&self.transport, Handle::try_current()) else { return };
        for peer in abroad.into_iter().filter_map(|to| self.peers.at(to)) {
            let (transport, from) = (Arc::clone(transport), self.members[0].node.id.clone());
            let release = request(&route.definition(self.puller.is_some()).0, Order::Release);
            runtime.spawn(async move {
                let told = transport.request(&from, &peer.id, Subject::Claim, release, PATIENCE).await;
                if let Err(error) = told {
                    tracing::debug!(%error, node = %peer.id, "a claim was not given back");
                }
            });
        }
    }

    /// What a node answers, if it does; the error says why the function's code can not be left for it.
    async fn ask_claim(&self, to: &NodeId, route: &Route, order: Order) -> Result<Option<Answer>, String> {
        let (digest, definition) = route.definition(self.puller.is_some());
        let head = request(digest, order).head;
        let ask = async |body| {
            // Claims are the process's, which gives them back as one.
            let (transport, from) = (self.transport.as_ref()?, &self.members[0].node.id);
            let request = Envelope { head: head.clone(), body };
            let answer = transport.request(from, to, Subject::Claim, request, PATIENCE).await.ok()?;
            postcard::from_bytes(&answer.head).ok()
        };
        match ask(Bytes::new()).await {
            Some(Answer::Unknown) => {}
            answer => return Ok(answer),
        }
        if let (Some(puller), Code::Component { bytes, .. }) = (&self.puller, &route.function.code) {
            let published = puller.publish(bytes.clone()).await;
            published.map_err(|error| format!("its code is not left for others: {}", with_causes(&error)))?;
        }
        Ok(ask(definition.clone()).await.filter(|answer| !matches!(answer, Answer::Unknown)))
    }
}

/// What is wrong and why, for another process.
fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn request(digest: &Digest, order: Order) -> Envelope {
    let head = postcard::to_stdvec(&Request { digest: *digest, order }).expect("a request can be encoded");
    Envelope { head: head.into(), body: Bytes::new() }
}

/// A function as nodes of other processes know it: the hash of its definition, and the definition. Where they pull
/// its code, that is named by its hash.
pub(crate) fn definition(function: &Function, is_pulled: bool) -> (Digest, Bytes) {
    let mut function = function.clone();
    if let (true, Code::Component { bytes, export }) = (is_pulled, &mut function.code) {
        function.code = Code::Stored { object: ObjectId::of(bytes), export: std::mem::take(export) };
    }
    let definition = Bytes::from(postcard::to_stdvec(&function).expect("a function can be encoded"));
    (*blake3::hash(&definition).as_bytes(), definition)
}
