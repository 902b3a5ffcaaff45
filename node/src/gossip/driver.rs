//! What gossips: says how this node is, greets those it has not heard, and makes a view of what it hears.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use base64::{Engine, engine::general_purpose::STANDARD_NO_PAD};
use chitchat::{Chitchat, ChitchatConfig, ChitchatHandle, ChitchatId, FailureDetectorConfig, NodeState, ProtocolVersion, spawn_chitchat};
use tokio::{
    net::lookup_host,
    task::JoinError,
    time::{MissedTickBehavior, interval, sleep_until, timeout},
};
use tokio_util::task::AbortOnDropHandle;
use umbel_proto::{Millis, NodeCard, NodeLoad};
use umbel_scheduler::placement::{self, Neighbour, Offer, Why};

use super::{Port, load::Sampler, transport::SealedTransport};
use crate::{
    actors::{Shared, gauges::Standing},
    brokers::LiveNode,
    clock,
    cluster::{Heard, Roster},
};

/// The keys under which a node says something. Short: they are sent with every word.
const CARD: &str = "c";
const LOAD: &str = "l";

/// How often the load is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// How often it is looked of whom there is news.
const HEAR: Duration = Duration::from_millis(125);

/// How often a node of a large cluster says how busy it is: so much for each node there is, so that all of them together do
/// not say more than each can hear.
const LOOK_PER_NODE: Duration = Duration::from_millis(40);

/// How often the broker is asked who holds a lease, and those that are not heard are greeted.
const GREET: Duration = Duration::from_secs(2);

/// The same, for each node there is.
const GREET_PER_NODE: Duration = Duration::from_millis(50);

/// How often seeds are greeted at the beginning, until somebody answers.
const GREET_AT_FIRST: Duration = Duration::from_millis(200);

/// How often a node that is alone asks the broker who holds a lease, once it has done so for a while: a newcomer asks by itself,
/// and an idle node is not to cost its broker much.
const ASK_ALONE: Duration = Duration::from_secs(10);

/// How often it is asked when others are there: those that gossip are heard without it.
const ASK: Duration = Duration::from_secs(4);

/// How long that while is.
const ASK_AT_FIRST: Duration = Duration::from_secs(3);

/// How many are greeted at a time.
const GREETED_MAX: usize = 3;

/// How long the broker may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// How often it is asked about silent nodes at most; for each node there is, so that a large cluster does not ask all the time.
const DOUBT: Duration = Duration::from_millis(50);
const DOUBT_PER_NODE: Duration = Duration::from_millis(10);

/// Gossips until the task is dropped. Without a port it only asks the broker.
pub(crate) async fn run(shared: &Shared) -> anyhow::Result<()> {
    let card = own_card(shared);
    let gossip = match &shared.gossip {
        Some(port) => Some(begin(port, &card).await?),
        None => None,
    };
    let mut live = gossip.as_ref().map(|gossip| gossip.live.clone());
    let mut driver = Driver {
        shared,
        card,
        gossip,
        leased: BTreeSet::new(),
        roster: Roster::new(shared.node.clone()),
        sampler: Sampler::default(),
        said: None,
        said_at: Instant::now(),
        greeted: Instant::now(),
        begun: Instant::now(),
        asked: Instant::now(),
        asking: None,
        ask: true,
        turn: 0,
    };
    let mut standing = shared.gauges.standing.subscribe();
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut hearing = interval(HEAR);
    hearing.set_missed_tick_behavior(MissedTickBehavior::Delay);
    driver.ask_broker();
    if let Some(asking) = driver.asking.take() {
        driver.learn(asking.await);
    }
    loop {
        driver.ask_broker();
        let doubted = driver.doubted();
        let (asking, doubt) = (&mut driver.asking, async {
            match doubted {
                Some(at) => sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        });
        let answer = async {
            match asking {
                Some(asking) => asking.await,
                None => std::future::pending().await,
            }
        };
        let news = async {
            match &mut live {
                Some(live) => live.changed().await.context("chitchat has ended"),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            heard = news => {
                heard?;
                driver.listen();
            }
            answer = answer => {
                driver.asking = None;
                driver.learn(answer);
            }
            () = doubt => driver.ask = true,
            changed = standing.changed() => {
                changed.context("the node has ended")?;
                driver.say(true).await?;
                driver.push().await?;
            }
            _ = hearing.tick(), if driver.gossip.is_some() => {
                driver.hear_news().await;
                driver.judge();
            }
            _ = ticks.tick() => {
                driver.say(false).await?;
                driver.greet().await?;
            }
        }
    }
}

/// When the broker was asked who holds a lease, and what it answered.
type Answer = (Millis, Option<Vec<LiveNode>>);

/// One life of chitchat.
struct Gossiping {
    handle: ChitchatHandle,
    live: tokio::sync::watch::Receiver<std::collections::BTreeMap<ChitchatId, NodeState>>,
    seeds: Vec<String>,
    own: SocketAddr,
}

fn own_card(shared: &Shared) -> NodeCard {
    let roles = shared.gossip.as_ref().map(|port| port.options.roles.clone()).unwrap_or_default();
    NodeCard {
        node: shared.node.clone(),
        generation: clock::now(),
        roles,
        queues: shared.queues.borrow().clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: shared.about.host.clone(),
        http: shared.about.http.map(|http| http.to_string()),
    }
}

async fn begin(port: &Port, card: &NodeCard) -> anyhow::Result<Gossiping> {
    let options = &port.options;
    // A name of its own for each life, and a short one, as every digest has it: the card has the node's. No two lives are ever
    // taken for each other, so chitchat's own generation has nothing to do.
    let id = STANDARD_NO_PAD.encode(&uuid::Uuid::new_v4().as_bytes()[..6]);
    let config = ChitchatConfig {
        chitchat_id: ChitchatId::new(id, 0, port.advertised),
        cluster_id: "umbel".to_owned(),
        gossip_interval: options.interval,
        listen_addr: options.listen,
        seed_nodes: Vec::new(),
        failure_detector_config: FailureDetectorConfig {
            phi_threshold: options.phi,
            sampling_window_size: 100,
            // In a large cluster rounds are rare, as each of them costs so much more.
            max_interval: Duration::from_secs(30),
            initial_interval: options.interval,
            dead_node_grace_period: Duration::from_secs(60),
        },
        marked_for_deletion_grace_period: Duration::from_secs(60),
        catchup_callback: None,
        extra_liveness_predicate: None,
        protocol_version: ProtocolVersion::V1,
    };
    let words = vec![(CARD.to_owned(), STANDARD_NO_PAD.encode(card.encode()?))];
    let transport = SealedTransport {
        port: Arc::clone(&port.socket),
        ring: options.keys.clone(),
        bytes_per_second: options.bytes_per_second,
        counters: Arc::clone(&port.counters),
    };
    let handle = spawn_chitchat(config, words, &transport).await?;
    let live = handle.with_chitchat(|chitchat| chitchat.live_nodes_watcher()).await;
    Ok(Gossiping { handle, live, seeds: options.seeds.clone(), own: port.advertised })
}

struct Driver<'a> {
    shared: &'a Shared,
    card: NodeCard,
    gossip: Option<Gossiping>,
    /// Where those who hold a lease gossip.
    leased: BTreeSet<SocketAddr>,
    roster: Roster,
    sampler: Sampler,
    said: Option<NodeLoad>,
    said_at: Instant,
    greeted: Instant,
    begun: Instant,
    asked: Instant,
    /// A question to the broker: when it was asked, and who holds a lease, if it answered.
    asking: Option<AbortOnDropHandle<Answer>>,
    /// Whether to ask it.
    ask: bool,
    /// Whose turn it is to be greeted.
    turn: usize,
}

impl Drop for Driver<'_> {
    /// Without news of the others a node takes what it would take alone.
    fn drop(&mut self) {
        let credits = &self.shared.credits;
        credits.offer.send_replace(Offer { messages: credits.total(), why: Why::Alone });
    }
}

impl Driver<'_> {
    /// How many nodes there are, as far as this one knows.
    fn size(&self) -> u32 {
        u32::try_from(self.shared.cluster.borrow().size()).unwrap_or(u32::MAX)
    }

    /// Says how busy this node is, if that is news; at once, if it is `urgent`.
    async fn say(&mut self, urgent: bool) -> anyhow::Result<()> {
        let pause = LOOK_PER_NODE.saturating_mul(self.size()).saturating_sub(LOOK / 2);
        if self.said.is_some() && !urgent && self.said_at.elapsed() < pause {
            return Ok(());
        }
        let (cpu_percent, memory_percent) = match self.said {
            Some(said) if urgent => (said.cpu_percent, said.memory_percent),
            _ => self.sampler.look(),
        };
        let (slots, busy, backlog) = self.shared.gauges.sum();
        let standing = *self.shared.gauges.standing.borrow();
        let draining = standing >= Standing::Draining;
        let load = NodeLoad { slots, busy, backlog, cpu_percent, memory_percent, draining, leaving: standing == Standing::Leaving };
        self.said_at = Instant::now();
        if self.said == Some(load) {
            return Ok(());
        }
        self.said = Some(load);
        if let Some(gossip) = &self.gossip {
            let word = STANDARD_NO_PAD.encode(load.encode()?);
            gossip.handle.with_chitchat(|chitchat| chitchat.self_node_state().set(LOAD, &word)).await;
        }
        self.listen();
        Ok(())
    }

    /// Makes a view of what is heard.
    fn listen(&mut self) {
        let mut heard: Vec<Heard> = Vec::new();
        let mut address = SocketAddr::from(([0, 0, 0, 0], 0));
        if let Some(gossip) = &mut self.gossip {
            address = gossip.own;
            heard.extend(gossip.live.borrow_and_update().iter().filter_map(|(id, state)| read(id, state)));
        }
        // What this node says itself comes without a detour.
        heard.retain(|heard| heard.address != address);
        heard.push(Heard { card: self.card.clone(), load: self.said.unwrap_or_default(), address });
        self.roster.heard(heard, clock::now());
        self.publish();
    }

    /// Learns of whom there is news. chitchat's watch does not tell: heartbeats alone change nothing in it.
    async fn hear_news(&mut self) {
        let Some(gossip) = &self.gossip else { return };
        let beat = |chitchat: &Chitchat, id: &ChitchatId| Some((id.gossip_advertise_addr, chitchat.node_state(id)?.heartbeat().into()));
        let heartbeats = gossip.handle.with_chitchat(|chitchat| chitchat.live_nodes().filter_map(|id| beat(chitchat, id)).collect()).await;
        self.roster.news(&heartbeats, clock::now());
    }

    fn publish(&mut self) {
        let view = self.roster.view(self.gossip.is_some(), clock::now());
        self.shared.cluster.send_if_modified(|known| {
            let differs = **known != view;
            if differs {
                for (node, member) in &view.members {
                    let before = known.members.get(node).map(|before| before.state);
                    if before != Some(member.state) && *node != view.me {
                        tracing::info!(%node, state = member.state.as_str(), "a node is {}", member.state.as_str());
                    }
                }
                *known = Arc::new(view);
            }
            differs
        });
        self.place();
    }

    /// Greets a few of those that are not heard.
    async fn greet(&mut self) -> anyhow::Result<()> {
        let alone = self.gossip.is_some() && self.size() == 1;
        let pause = if alone { GREET_AT_FIRST } else { (GREET_PER_NODE * self.size()).max(GREET) };
        if self.greeted.elapsed() < pause {
            return Ok(());
        }
        self.greeted = Instant::now();
        let ask = if alone || self.gossip.is_none() { ASK_ALONE } else { ASK };
        self.ask |= self.begun.elapsed() < ASK_AT_FIRST || self.asked.elapsed() >= ask;
        let Some(gossip) = &self.gossip else { return Ok(()) };
        let mut strangers: BTreeSet<SocketAddr> = self.leased.clone();
        for seed in &gossip.seeds {
            if let Ok(Ok(found)) = timeout(PATIENCE, lookup_host(seed)).await {
                strangers.extend(found);
            }
        }
        let heard: BTreeSet<SocketAddr> = gossip.live.borrow().keys().map(|id| id.gossip_advertise_addr).collect();
        strangers.retain(|address| !heard.contains(address) && *address != gossip.own);
        let count = strangers.len();
        for address in strangers.iter().copied().cycle().skip(self.turn % count.max(1)).take(count.min(GREETED_MAX)) {
            gossip.handle.gossip(address)?;
        }
        self.turn = self.turn.wrapping_add(GREETED_MAX);
        Ok(())
    }

    /// Tells a few others at once.
    async fn push(&mut self) -> anyhow::Result<()> {
        if let Some(gossip) = &self.gossip {
            let heard: Vec<SocketAddr> = gossip.live.borrow().keys().map(|id| id.gossip_advertise_addr).collect();
            for address in heard.into_iter().filter(|address| *address != gossip.own).take(GREETED_MAX) {
                gossip.handle.gossip(address)?;
            }
        }
        Ok(())
    }

    /// Asks who holds a lease, if that is wanted and no question is on its way.
    fn ask_broker(&mut self) {
        if !self.ask || self.asking.is_some() {
            return;
        }
        self.ask = false;
        self.asked = Instant::now();
        let broker = Arc::clone(&self.shared.broker);
        self.asking = Some(AbortOnDropHandle::new(crate::task::spawn(async move {
            let asked = clock::now();
            (asked, timeout(PATIENCE, broker.nodes()).await.ok().and_then(Result::ok).flatten())
        })));
    }

    /// When the broker is to be asked about a node that is silent.
    fn doubted(&self) -> Option<Instant> {
        let at = self.roster.doubted().filter(|_| self.asking.is_none())?;
        let wait = Duration::from_millis((at - clock::now()).max(0).unsigned_abs());
        Some((Instant::now() + wait).max(self.asked + DOUBT.max(DOUBT_PER_NODE * self.size())))
    }

    /// Learns who holds a lease. A broker that does not answer says nothing new.
    fn learn(&mut self, answer: Result<Answer, JoinError>) {
        match answer {
            Ok((asked, Some(nodes))) => {
                self.leased = nodes.iter().filter_map(|node| node.about.gossip).collect();
                self.roster.leases(nodes, asked);
            }
            _ => self.roster.unanswered(),
        }
        self.publish();
    }

    /// Judges anew those that are silent: time has passed.
    fn judge(&mut self) {
        if self.roster.is_uneasy(clock::now()) {
            self.publish();
        }
    }

    /// Decides how much to take, now that the others are known to be so.
    fn place(&self) {
        let credits = &self.shared.credits;
        let load = self.said.unwrap_or_default();
        if load.slots == 0 {
            return;
        }
        let view = self.shared.cluster.borrow();
        let others = view.others().filter_map(|member| Some(Neighbour { queues: &member.queues, load: member.load? }));
        let queues = self.shared.queues.borrow().clone();
        let offer = placement::offer(Neighbour { queues: &queues, load }, others, credits.total());
        credits.offer.send_if_modified(|known| {
            let differs = *known != offer;
            *known = offer;
            differs
        });
    }
}

fn read(id: &ChitchatId, state: &NodeState) -> Option<Heard> {
    let bytes = |key| STANDARD_NO_PAD.decode(state.get(key)?).ok();
    let card = NodeCard::decode(&bytes(CARD)?).ok()?;
    let load = bytes(LOAD).and_then(|bytes| NodeLoad::decode(&bytes).ok()).unwrap_or_default();
    Some(Heard { card, load, address: id.gossip_advertise_addr })
}
