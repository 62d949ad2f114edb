//! Who is there, by what was heard and when.

use std::{collections::BTreeMap, time::Duration};

use scf_core::{FunctionName, Node, NodeId, Timestamp};

use super::beat::{Beat, Life, Status};

/// How often a node says that it is there.
pub(crate) const BEAT: Duration = Duration::from_millis(500);
/// Three beats were missed, and time for one to be late.
pub(crate) const SUSPECTED: Duration = Duration::from_millis(1750);
/// After that a node that is not heard is taken for gone.
const GONE: Duration = Duration::from_secs(5);
/// Nodes that are remembered, gone ones too; of more nothing is known.
const MOST: usize = 4096;

/// Whether a node of another process is there, as far as this process can know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Presence {
    /// It was heard within three beats.
    Alive,
    /// Three beats of it were missed: nothing new is placed there, what runs there may still end.
    Suspected,
    /// It is not heard, since this process does not reach the broker: nothing is known of it.
    CutOff,
    /// Its machine answers and says that the process is not there.
    Crashed,
    /// It has not been heard for five seconds: it crashed, or the network between is cut.
    Gone,
    /// It said that it leaves.
    Left,
}

/// What is known of the nodes of other processes. Time is given; nothing is read.
#[derive(Debug, Default)]
pub(crate) struct Roster {
    seen: BTreeMap<NodeId, Seen>,
}

#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) node: Node,
    pub(crate) plane: Option<String>,
    pub(crate) status: Status,
    pub(crate) presence: Presence,
    life: Life,
    heard: Timestamp,
}

/// What hearing a beat, or none, comes to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// A node is there, for the first time or in another life: what it was asked to keep is forgotten.
    Joined(NodeId),
    /// What is known of it changed.
    Changed(NodeId),
    /// A beat of it was missed, or it is not known: it has to be asked.
    Unclear(NodeId),
    /// The same as before.
    Nothing,
}

impl Roster {
    pub(crate) fn get(&self, node: &NodeId) -> Option<&Seen> {
        self.seen.get(node)
    }

    /// The nodes that said that their process deployed `function` on them and did not say that they left: those that
    /// may be there, or else those that are gone.
    pub(crate) fn hosts(&self, function: &FunctionName) -> Vec<&NodeId> {
        let hosts = |is_there: bool| {
            let seen = self.seen.iter().filter(move |(_, seen)| seen.is_there() == is_there);
            let seen =
                seen.filter(|(_, seen)| seen.presence != Presence::Left && seen.status.hosted.contains(function));
            seen.map(|(id, _)| id).collect::<Vec<_>>()
        };
        Some(hosts(true)).filter(|hosts| !hosts.is_empty()).unwrap_or_else(|| hosts(false))
    }

    /// A node said something at `now`.
    pub(crate) fn heard(&mut self, beat: Beat, now: Timestamp) -> News {
        match beat {
            Beat::Whole { life, node, plane, status } => self.heard_whole(life, *node, plane, status, now),
            Beat::Change { node, life, change } => {
                let Some(seen) = self.seen.get_mut(&node) else { return News::Unclear(node) };
                if life.began < seen.life.began && seen.is_there() {
                    return News::Nothing;
                }
                if life.began != seen.life.began || life.beat != seen.life.beat + 1 {
                    return News::Unclear(node);
                }
                let before = seen.presence;
                let is_same = change == Default::default();
                seen.status.apply(change);
                (seen.life, seen.heard, seen.presence) = (life, now, Presence::Alive);
                match before {
                    // What was taken for gone may have been asked to forget.
                    Presence::Gone | Presence::Crashed => News::Joined(node),
                    Presence::Alive if is_same => News::Nothing,
                    _ => News::Changed(node),
                }
            }
            Beat::Left { node, life } => match self.seen.get_mut(&node) {
                Some(seen) if life.began >= seen.life.began && seen.presence != Presence::Left => {
                    seen.presence = Presence::Left;
                    News::Changed(node)
                }
                _ => News::Nothing,
            },
            Beat::Who { .. } => News::Nothing,
        }
    }

    fn heard_whole(&mut self, life: Life, node: Node, plane: Option<String>, status: Status, now: Timestamp) -> News {
        let id = node.id.clone();
        let known = self.seen.get(&id);
        if known.is_none() && self.seen.len() >= MOST {
            return News::Nothing;
        }
        if known.is_some_and(|seen| {
            let is_older =
                life.began < seen.life.began || (life.began == seen.life.began && life.beat < seen.life.beat);
            is_older && seen.is_there()
        }) {
            return News::Nothing;
        }
        let is_same_life = known.is_some_and(|seen| seen.life.began == life.began && seen.is_there());
        let is_same = known.is_some_and(|seen| {
            is_same_life && seen.presence == Presence::Alive && seen.status == status && seen.plane == plane
        });
        self.seen.insert(id.clone(), Seen { node, plane, status, presence: Presence::Alive, life, heard: now });
        match (is_same, is_same_life) {
            (true, _) => News::Nothing,
            (_, true) => News::Changed(id),
            _ => News::Joined(id),
        }
    }

    /// Who is not heard any more at `now`: nodes that are newly suspected or gone.
    pub(crate) fn overdue(&mut self, now: Timestamp) -> Vec<(NodeId, Presence)> {
        let mut changed = Vec::new();
        for (id, seen) in &mut self.seen {
            let silence = now.since(seen.heard);
            let presence = match seen.presence {
                Presence::Alive | Presence::Suspected if silence >= GONE => Presence::Gone,
                Presence::Alive if silence >= SUSPECTED => Presence::Suspected,
                same => same,
            };
            if presence != seen.presence {
                seen.presence = presence;
                changed.push((id.clone(), presence));
            }
        }
        changed
    }

    /// Whoever listens there says that the process of a suspected node is not there; whether that is news.
    pub(crate) fn crashed(&mut self, node: &NodeId) -> bool {
        let suspected = self.seen.get_mut(node).filter(|seen| seen.presence == Presence::Suspected);
        suspected.map(|seen| seen.presence = Presence::Crashed).is_some()
    }

    /// This process has lost the broker: silence says nothing. Gives whose presence changed.
    pub(crate) fn cut_off(&mut self) -> Vec<NodeId> {
        let heard =
            self.seen.iter_mut().filter(|(_, seen)| matches!(seen.presence, Presence::Alive | Presence::Suspected));
        heard.map(|(id, seen)| (seen.presence = Presence::CutOff, id.clone()).1).collect()
    }

    /// The broker is back at `now`: everybody has as long as after a beat to be heard.
    pub(crate) fn back(&mut self, now: Timestamp) {
        for seen in self.seen.values_mut().filter(|seen| seen.presence == Presence::CutOff) {
            (seen.presence, seen.heard) = (Presence::Suspected, now);
        }
    }
}

impl Seen {
    /// Whether it may still be in the life that was heard of.
    const fn is_there(&self) -> bool {
        matches!(self.presence, Presence::Alive | Presence::Suspected | Presence::CutOff)
    }
}

#[cfg(test)]
mod tests {
    use scf_core::{Health, Resources, Tier};

    use super::{super::beat::Change, *};

    fn at(ms: u64) -> Timestamp {
        Timestamp::from_nanos(ms * 1_000_000)
    }

    fn b() -> NodeId {
        NodeId::new("b").unwrap()
    }

    fn status(load: u32) -> Status {
        let (free, health) = (Resources::default(), Health::Ready);
        Status { free, load, health, version: 0, warm: Vec::new(), hosted: Vec::new(), paths: Vec::new() }
    }

    fn whole(began: u64, beat: u64, load: u32) -> Beat {
        let node = Box::new(Node::new(b(), Tier::Edge));
        Beat::Whole { life: Life { began, beat }, node, plane: None, status: status(load) }
    }

    fn change(began: u64, beat: u64, change: Change) -> Beat {
        Beat::Change { node: b(), life: Life { began, beat }, change }
    }

    fn presence(roster: &Roster) -> Presence {
        roster.get(&b()).unwrap().presence
    }

    #[test]
    fn what_is_known_follows_the_changes_and_a_missed_one_is_asked_for() {
        let mut roster = Roster::default();
        assert_eq!(roster.heard(change(1, 5, Change::default()), at(0)), News::Unclear(b()));
        assert_eq!(roster.heard(whole(1, 5, 0), at(0)), News::Joined(b()));
        assert_eq!(roster.heard(change(1, 6, status(2).since(&status(0))), at(500)), News::Changed(b()));
        assert_eq!(roster.get(&b()).unwrap().status.load, 2);
        assert_eq!(roster.heard(change(1, 7, Change::default()), at(1000)), News::Nothing);
        assert_eq!(roster.heard(change(1, 9, Change::default()), at(2000)), News::Unclear(b()));
    }

    #[test]
    fn silence_is_suspected_first_and_taken_for_gone_later() {
        let mut roster = Roster::default();
        roster.heard(whole(1, 0, 0), at(0));
        assert_eq!(roster.overdue(at(1700)), []);
        assert_eq!(roster.overdue(at(1800)), [(b(), Presence::Suspected)]);
        assert_eq!(roster.overdue(at(4000)), []);
        assert_eq!(roster.heard(change(1, 1, Change::default()), at(4100)), News::Changed(b()));
        assert_eq!(roster.overdue(at(9200)), [(b(), Presence::Gone)]);
        assert_eq!(roster.heard(whole(1, 2, 0), at(9300)), News::Joined(b()));
    }

    #[test]
    fn another_life_is_another_node_and_beats_of_the_one_before_are_late() {
        let mut roster = Roster::default();
        roster.heard(whole(1, 8, 0), at(0));
        assert_eq!(roster.heard(whole(2, 0, 0), at(100)), News::Joined(b()));
        assert_eq!(roster.heard(whole(1, 9, 5), at(200)), News::Nothing);
        assert_eq!(roster.get(&b()).unwrap().status.load, 0);
    }

    #[test]
    fn who_left_is_not_missed_and_may_come_again() {
        let mut roster = Roster::default();
        roster.heard(whole(1, 0, 0), at(0));
        assert_eq!(
            roster.heard(Beat::Left { node: b(), life: Life { began: 1, beat: 1 } }, at(100)),
            News::Changed(b())
        );
        assert_eq!(roster.overdue(at(60_000)), []);
        assert_eq!(presence(&roster), Presence::Left);
        assert_eq!(roster.heard(whole(2, 0, 0), at(60_000)), News::Joined(b()));
    }

    #[test]
    fn who_has_lost_the_broker_takes_nobody_for_gone() {
        let mut roster = Roster::default();
        roster.heard(whole(1, 0, 0), at(0));
        assert_eq!(roster.cut_off(), [b()]);
        assert_eq!(roster.overdue(at(60_000)), []);
        assert_eq!(presence(&roster), Presence::CutOff);
        roster.back(at(60_000));
        assert_eq!(roster.heard(change(1, 1, Change::default()), at(60_100)), News::Changed(b()));
        assert_eq!(presence(&roster), Presence::Alive);
    }

    #[test]
    fn who_hosts_a_function_is_known_of_nodes_that_are_there_and_else_of_those_that_are_gone() {
        let mut roster = Roster::default();
        let function = FunctionName::new("f").unwrap();
        let hosting = |id: &str| {
            let status = Status { hosted: vec![FunctionName::new("f").unwrap()], ..status(0) };
            let node = Box::new(Node::new(NodeId::new(id).unwrap(), Tier::Edge));
            Beat::Whole { life: Life { began: 1, beat: 0 }, node, plane: None, status }
        };
        roster.heard(whole(1, 0, 0), at(0));
        roster.heard(hosting("c"), at(0));
        roster.heard(hosting("d"), at(4000));
        assert_eq!(roster.hosts(&function), [&NodeId::new("c").unwrap(), &NodeId::new("d").unwrap()]);
        roster.overdue(at(5000));
        assert_eq!(roster.hosts(&function), [&NodeId::new("d").unwrap()]);
        let left = Beat::Left { node: NodeId::new("d").unwrap(), life: Life { began: 1, beat: 1 } };
        roster.heard(left, at(5000));
        assert_eq!(roster.hosts(&function), [&NodeId::new("c").unwrap()]);
    }

    #[test]
    fn a_crash_is_told_from_silence_where_its_machine_says_so() {
        let mut roster = Roster::default();
        roster.heard(whole(1, 0, 0), at(0));
        assert!(!roster.crashed(&b()));
        roster.overdue(at(2000));
        assert!(roster.crashed(&b()));
        assert_eq!(presence(&roster), Presence::Crashed);
    }
}
