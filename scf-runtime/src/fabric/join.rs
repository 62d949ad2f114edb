//! Membership of a fleet: what the nodes of this process tell of themselves, and what they hear of others.

use std::{
    sync::{Arc, MutexGuard, PoisonError, Weak, atomic::Ordering::Release},
    time::Duration,
};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream::FuturesUnordered};
use scf_core::{Health, NodeId, NodeStatus, Path, QueuedCall, Timestamp};
use tokio::net::TcpStream;

use super::{Fabric, Inner, tick::differs};
use crate::{
    controller::{Controller, Lifecycle, Ready},
    transport::{
        Nats, Presence,
        fleet::{BEAT, Beat, Life, News, Roster, SUSPECTED, Status},
    },
};

/// Every so many beats a node tells all of itself, for those who joined unheard.
const WHOLE_EVERY: u64 = 10;
/// Functions and ways that a node tells of; more would not fit a beat that everybody hears.
const MOST_TOLD: usize = 256;
/// How long the machine of a suspected node has to say that the process is not there.
const INQUIRY: Duration = Duration::from_secs(1);
/// A connection over which nothing of what is said here came back for so long is made anew: what TCP repeats on one
/// that was cut comes ever later, on a new one at once.
const STALLED: Duration = Duration::from_secs(8);

/// A node of another process, as this one knows it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PeerStatus {
    /// What it told of itself, and whether it takes calls.
    pub status: NodeStatus,
    /// Whether it is there.
    pub presence: Presence,
    /// Functions that have isolates there.
    pub warm: Vec<scf_core::FunctionName>,
}

impl Fabric {
    /// The nodes of other processes that were heard of, those that are gone too, by name.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        let roster = self.inner.roster();
        let known = self.inner.peers.all().into_iter().filter_map(|peer| {
            let seen = roster.get(&peer.id)?;
            Some(PeerStatus { status: peer.status(), presence: seen.presence, warm: seen.status.warm.clone() })
        });
        let mut peers: Vec<_> = known.collect();
        peers.sort_by(|a, b| a.status.node.id.cmp(&b.status.node.id));
        peers
    }
}

/// One node of this process, as it speaks.
struct Voice {
    member: usize,
    beat: u64,
    told: Option<Status>,
    has_left: bool,
}

/// What speaks and hears for a fabric.
pub(super) struct Membership {
    inner: Weak<Inner>,
    nats: Arc<Nats>,
    began: u64,
    voices: Vec<Voice>,
    inquiries: FuturesUnordered<BoxFuture<'static, Option<NodeId>>>,
    is_cut_off: bool,
    /// When a beat of this process was last heard here, which came back from the broker.
    echoed: Timestamp,
    /// When the connection was last given up.
    given_up: Timestamp,
}

impl Membership {
    pub(super) fn new(inner: &Arc<Inner>, nats: Arc<Nats>) -> Self {
        let voice = |member| Voice { member, beat: 0, told: None, has_left: false };
        let now = inner.clock.now();
        Self {
            inner: Arc::downgrade(inner),
            nats,
            began: inner.clock.wall().millis(),
            voices: (0..inner.members.len()).map(voice).collect(),
            inquiries: FuturesUnordered::new(),
            is_cut_off: false,
            echoed: now,
            given_up: now,
        }
    }

    /// Speaks and hears until the fabric is dropped.
    pub(super) async fn run(mut self) {
        self.nats.joined().await;
        let Some(clock) = self.inner.upgrade().map(|inner| inner.clock.clone()) else { return };
        // Silence counts from here.
        self.echoed = clock.now();
        self.given_up = self.echoed;
        let mut heard = match self.nats.hear().await {
            Ok(heard) => heard,
            Err(error) => {
                tracing::error!(%error, "the beats of other nodes can not be heard");
                return;
            }
        };
        self.nats.say(&Beat::Who { node: None });
        let mut due = Timestamp::default();
        loop {
            // What was said is heard first: who was held up would take others for silent that were not.
            tokio::select! {
                biased;
                message = heard.next() => {
                    let Some(message) = message else { return };
                    let Some(inner) = self.inner.upgrade() else { return };
                    match postcard::from_bytes(&message.payload) {
                        Ok(beat) => self.hear(&inner, beat),
                        Err(error) => tracing::warn!(%error, "dropped a beat that is none of ours"),
                    }
                }
                Some(crashed) = self.inquiries.next() => {
                    let Some(inner) = self.inner.upgrade() else { return };
                    if let Some(node) = crashed && inner.roster().crashed(&node) {
                        self.lost(&inner, &node, Presence::Crashed);
                    }
                }
                () = clock.sleep(due.since(clock.now())) => {
                    let Some(inner) = self.inner.upgrade() else { return };
                    let now = clock.now();
                    due = now + BEAT;
                    self.watch(&inner, now);
                    self.speak(&inner, false);
                }
            }
        }
    }

    /// Tells of every node of this process: what changed, or `all`.
    fn speak(&mut self, inner: &Inner, all: bool) {
        for voice in self.voices.iter_mut().filter(|voice| !voice.has_left) {
            let life = Life { began: self.began, beat: voice.beat };
            let member = &inner.members[voice.member];
            let status = inner.told_of(voice.member, voice.told.as_ref());
            let beat = match &voice.told {
                _ if status.health == Health::Unreachable => {
                    voice.has_left = true;
                    Beat::Left { node: member.node.id.clone(), life }
                }
                Some(before) if !all && !voice.beat.is_multiple_of(WHOLE_EVERY) => {
                    Beat::Change { node: member.node.id.clone(), life, change: status.since(before) }
                }
                _ => {
                    let (node, plane) = (Box::new((*member.node).clone()), self.nats.plane().map(str::to_owned));
                    Beat::Whole { life, node, plane, status: status.clone() }
                }
            };
            voice.beat += 1;
            voice.told = Some(status);
            self.nats.say(&beat);
        }
    }

    fn hear(&mut self, inner: &Arc<Inner>, beat: Beat) {
        let asked = match &beat {
            Beat::Who { node } => node.as_ref().is_none_or(|node| inner.positions.contains_key(node)),
            Beat::Whole { node, .. } if inner.positions.contains_key(&node.id) => return self.echo(inner),
            Beat::Change { node, .. } | Beat::Left { node, .. } if inner.positions.contains_key(node) => {
                return self.echo(inner);
            }
            _ => false,
        };
        if asked {
            return self.speak(inner, true);
        }
        let news = inner.roster().heard(beat, inner.clock.now());
        match news {
            News::Joined(node) => {
                self.nats.know(&node);
                inner.forget_claims(&node);
                tracing::info!(%node, "scf.node.joined");
                inner.note(&node, true);
            }
            News::Changed(node) => {
                let is_left = inner.roster().get(&node).is_some_and(|seen| seen.presence == Presence::Left);
                if is_left { self.lost(inner, &node, Presence::Left) } else { inner.note(&node, false) }
            }
            News::Unclear(node) => self.nats.say(&Beat::Who { node: Some(node) }),
            News::Nothing => {}
        }
    }

    /// What is said here came back from the broker.
    fn echo(&mut self, inner: &Inner) {
        self.echoed = inner.clock.now();
        self.nats.set_heard(true);
    }

    /// Looks who is not heard any more.
    ///
    /// Whether this process is cut off itself it does not know from its connection, on which silence is no error, but from
    /// its own beats, which the broker gives back.
    fn watch(&mut self, inner: &Arc<Inner>, now: Timestamp) {
        let silence = now.since(self.echoed);
        if silence >= STALLED && now.since(self.given_up) >= STALLED && self.nats.connect_anew() {
            self.given_up = now;
        }
        if silence >= SUSPECTED || !self.nats.is_connected() {
            self.nats.set_heard(silence < SUSPECTED);
            self.is_cut_off = true;
            let cut_off = inner.roster().cut_off();
            for node in cut_off {
                tracing::warn!(%node, "scf.node.cut_off");
                inner.note(&node, true);
            }
            return;
        }
        if std::mem::take(&mut self.is_cut_off) {
            inner.roster().back(now);
        }
        let overdue = inner.roster().overdue(now);
        for (node, presence) in overdue {
            match presence {
                Presence::Suspected => {
                    tracing::warn!(%node, "scf.node.suspected");
                    let plane = inner.roster().get(&node).and_then(|seen| seen.plane.clone());
                    if let Some(plane) = plane {
                        self.inquiries.push(is_crashed(node.clone(), plane).boxed());
                    }
                    inner.note(&node, true);
                }
                presence => self.lost(inner, &node, presence),
            }
        }
    }

    /// A node is not there any more: what it was asked is not answered, and what it claimed is free.
    fn lost(&self, inner: &Arc<Inner>, node: &NodeId, presence: Presence) {
        tracing::warn!(%node, ?presence, "scf.node.lost");
        self.nats.lose(node);
        inner.forget_claims(node);
        inner.release_guests_of(node);
        inner.note(node, true);
    }
}

/// Whether the machine of a node says that nobody listens where it did: a refusal comes from a machine that is
/// reached and runs, so that it is the process that is not there.
async fn is_crashed(node: NodeId, plane: String) -> Option<NodeId> {
    let connected = tokio::time::timeout(INQUIRY, TcpStream::connect(plane)).await.ok()?;
    let is_refused = connected.is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused);
    is_refused.then_some(node)
}

impl Inner {
    pub(super) fn roster(&self) -> MutexGuard<'_, Roster> {
        self.roster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node of another process to whose queue `call` belongs: one that hosts the function, the same one for all
    /// calls of a key as long as the same ones do (rendezvous hashing: Thaler and Ravishankar, 1998).
    pub(crate) fn host_abroad(&self, call: &QueuedCall) -> Option<NodeId> {
        let roster = self.roster();
        let weight = |node: &NodeId| {
            let mut hasher = blake3::Hasher::new();
            hasher.update(node.as_str().as_bytes());
            match &call.key {
                Some(key) => hasher.update(key.as_bytes()),
                None => hasher.update(&call.id.bits().to_le_bytes()),
            };
            *hasher.finalize().as_bytes()
        };
        roster.hosts(&call.function).into_iter().max_by_key(|node| weight(node)).cloned()
    }

    /// Has the router know what is known of a node. Where `is_new`, placements are decided anew.
    fn note(&self, node: &NodeId, is_new: bool) {
        let (noted, is_there) = {
            let roster = self.roster();
            let Some(seen) = roster.get(node) else { return };
            let health = match seen.presence {
                Presence::Alive => seen.status.health,
                _ => Health::Unreachable,
            };
            let Status { free, load, version, .. } = seen.status;
            let now = self.clock.now();
            // Measured by another clock: what is told is taken for what is.
            let paths = seen.status.paths.iter().map(|(to, path)| (to.clone(), Path { measured: now, ..*path }));
            let status = NodeStatus { node: Arc::new(seen.node.clone()), free, load, health, version };
            (self.peers.set(status, paths.collect()), seen.presence == Presence::Alive)
        };
        if noted.1 || is_new {
            self.epoch.fetch_add(1, Release);
            if is_there && let Some(dispatcher) = &self.dispatcher {
                dispatcher.arrived(node);
            }
        }
    }

    /// Forgets what was claimed on a node, which has forgotten it too.
    fn forget_claims(&self, node: &NodeId) {
        let Some(position) = self.peers.position(node) else { return };
        for route in self.functions(|_, deployment| Some(deployment.revisions().to_vec())).iter().flatten() {
            route.forget_at(position);
        }
    }

    /// What is told of a member. A way is told as it was `before` until it is another one.
    fn told_of(&self, position: usize, before: Option<&Status>) -> Status {
        let member = &self.members[position];
        let (free, health, version) = member.status();
        let is_warm = |ready: &Arc<Ready>| Controller::lifecycle(ready).0 == Lifecycle::Ready;
        let mut warm = self.functions(|name, deployment| {
            let mut ready = deployment.revisions().iter().filter_map(|route| route.ready[position].as_ref());
            ready.any(is_warm).then(|| name.clone())
        });
        warm.sort();
        warm.truncate(MOST_TOLD);
        let guests = self.guests.revisions();
        let mut hosted = self.functions(|name, deployment| {
            let main = deployment.main().filter(|route| route.ready[position].is_some())?;
            (!guests.contains(&(name.clone(), main.revision))).then(|| name.clone())
        });
        hosted.sort();
        hosted.truncate(MOST_TOLD);
        let path = |to: &NodeId| {
            let now = self.transport.as_ref()?.path(&member.node.id, to)?;
            let mut told = before.iter().flat_map(|before| &before.paths);
            let told = told.find(|(other, _)| other == to).map(|(_, path)| *path);
            Some((to.clone(), told.filter(|told| !differs(Some(*told), Some(now))).unwrap_or(now)))
        };
        let peers = self.peers.all();
        let others = self.members.iter().map(|member| &member.node.id).filter(|id| **id != member.node.id);
        let paths = others.chain(peers.iter().map(|peer| &peer.id)).filter_map(path).take(MOST_TOLD).collect();
        Status { free, load: member.controller.load(), health, version, warm, hosted, paths }
    }
}
