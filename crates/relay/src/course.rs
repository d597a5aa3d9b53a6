//! The course of a request through the plan of its model: which target is asked now, and whether
//! another one is asked after a failure.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use policy::Plan;
use policy::health::retry::is_fast;
use policy::health::{Next, Tally};
use policy::plan::{Candidate, Composed, Failed, Picker, Resume};
use policy::queue::Queue;
use policy::units::milliseconds;
use tokio::time::{Instant, sleep};

use crate::admit::{Refusal, retry_after};
use crate::begin::{Incoming, Unanswered};
use crate::beside::SideBySide;
use crate::facts::Looked;
use crate::fault::{Code, Fault};
use crate::intake::Operation;
use crate::prepare::{Ask, Wish, unknown_model};
use crate::queue::{self, Place};
use crate::resume::said::Said;
use crate::serve::Context;

/// Characters of a model's name that are recorded: nobody has to name one that exists.
pub(crate) const LOGGED_NAME: usize = 200;

/// How far a request has come in its plan.
#[derive(Default)]
pub(crate) struct Course {
    /// The model that is asked in place of the one that the body names.
    instead: Option<Arc<str>>,
    /// The plan that is followed, whatever the model.
    given: Option<Arc<Plan>>,
    way: Option<Way>,
    /// How often it was gone through before.
    rounds: u32,
    /// What each target said that was asked, in words.
    tried: Vec<String>,
    /// The model that an exhausted budget names, where it is for others to ask it.
    turned: Option<Arc<str>>,
    /// Its place among those who wait for room, once it waits.
    place: Option<Place>,
    /// Whether it was refused for nothing but want of room.
    is_short: bool,
}

/// A plan, and how far it was followed.
struct Way {
    plan: Arc<Plan>,
    picker: Picker,
    looked: Looked,
    /// The target that is asked now.
    target: usize,
    /// What was said of the answer that attempts have to go on with.
    said: Option<Said>,
}

/// What comes next for a request.
pub(crate) enum Step {
    /// A target is asked.
    Ask(Ask),
    /// Others are asked, of which its model is composed.
    Composed(Arc<Composed>),
}

impl Course {
    /// Through a plan that a composed model names, or that of a request without a model.
    pub(crate) fn through(plan: &Arc<Plan>) -> Self {
        Self { given: Some(Arc::clone(plan)), ..Self::default() }
    }

    /// Through the plan of a model that is asked in place of another one.
    pub(crate) fn instead(model: Arc<str>) -> Self {
        Self { instead: Some(model), ..Self::default() }
    }

    /// The model that an exhausted budget names, where a composed model names this one.
    pub(crate) fn turned(&mut self) -> Option<Arc<str>> {
        self.turned.take()
    }

    /// Whether there may be another target than the one that is asked now.
    pub(crate) fn has_more(&self) -> bool {
        self.way.as_ref().is_some_and(|way| way.plan.targets().len() > 1)
    }

    /// How many targets are asked side by side, the one that is asked now among them, and when.
    pub(crate) fn side_by_side(&self) -> Option<SideBySide> {
        let way = self.way.as_ref()?;
        let (width, after_ms) = way.plan.side_by_side(way.target)?;
        Some(SideBySide { width, after: Duration::from_millis(after_ms) })
    }

    /// Whether another attempt is made after one that failed.
    pub(crate) fn goes_on(&mut self, failed: Failed, now_ms: u64) -> bool {
        let Some(way) = &mut self.way else { return false };
        let targets = way.plan.targets();
        let elsewhere = match failed.next {
            Next::Answer => false,
            Next::OtherTarget | Next::LargerTarget => targets.len() > 1,
            Next::OtherCredential => {
                targets.len() > 1 || !targets[0].route.provider.more_credentials.is_empty()
            }
        };
        elsewhere && way.plan.go_on(&mut way.picker, failed, now_ms)
    }

    /// After all targets have failed: waits, if the model wants that and it may help, and goes
    /// through the plan once more. Says whether it does. The retry `is_paid` if another target was
    /// to be asked, and there was none.
    pub(crate) async fn again<B>(
        &mut self,
        last: Option<&Unanswered<B>>,
        is_paid: bool,
        context: &mut Context,
    ) -> bool {
        let (Some(way), Some(asked)) = (&mut self.way, last.and_then(Unanswered::passes)) else {
            return false;
        };
        let random = context.random.rotate_left(self.rounds);
        let asked_ms = asked.map(milliseconds);
        let wait = way.plan.wait_ms(self.rounds, random, asked_ms).map(Duration::from_millis);
        let clocks = way.plan.targets()[way.target].route.clocks;
        let end = context.start + clocks.total;
        let Some(wait) = wait.filter(|wait| Instant::now() + *wait < end) else { return false };
        if !is_paid && !way.plan.budget().spend(context.settlement.now_ms()) {
            return false;
        }
        sleep(wait).await;
        context.waited += wait;
        context.later = context.start.elapsed();
        self.rounds += 1;
        way.picker = Picker::new(random);
        true
    }

    /// Whether an exhausted budget may still name another model.
    pub(crate) fn may_turn(&self) -> bool {
        self.instead.is_none() && self.given.is_none() && self.said().is_none()
    }

    /// What the options of the model have come to.
    pub(crate) fn tally(&self) -> Option<&Tally> {
        self.way.as_ref().map(|way| &**way.plan.tally())
    }

    /// Where an answer that breaks off is gone on with.
    pub(crate) fn resume(&self) -> Resume {
        self.way.as_ref().map_or(Resume::Off, |way| way.plan.resume())
    }

    /// Whether an answer that broke off is gone on with by another attempt. How long it took to break
    /// off says nothing: its client was being served.
    pub(crate) fn resumes(&mut self, failed: Failed, now_ms: u64) -> bool {
        let failed = Failed { took_ms: 0, ..failed };
        let is_alone = !self.has_more();
        match &mut self.way {
            Some(way) if is_alone && way.plan.resume() == Resume::Anywhere => {
                way.picker.again();
                way.plan.go_on(&mut way.picker, failed, now_ms)
            }
            _ => self.goes_on(failed, now_ms),
        }
    }

    /// Has the attempts to come go on with what was said.
    pub(crate) fn go_on_with(&mut self, said: Said) {
        if let Some(way) = &mut self.way {
            way.said = Some(said);
        }
    }

    /// What was said of the answer that attempts have to go on with.
    pub(crate) fn said(&self) -> Option<&Said> {
        self.way.as_ref()?.said.as_ref()
    }

    /// Takes that back.
    pub(crate) fn take_said(&mut self) -> Said {
        self.way.as_mut().and_then(|way| way.said.take()).unwrap_or_default()
    }

    /// The plan and its queue, if the request was refused for nothing but want of room and there is
    /// one; and its place there, if it waits already.
    pub(crate) fn may_wait(&mut self) -> Option<(&Plan, &Queue, Option<Place>)> {
        let is_short = std::mem::take(&mut self.is_short);
        let plan = &*self.way.as_ref()?.plan;
        Some((plan, plan.queue().filter(|_| is_short)?, self.place.take()))
    }

    /// Has the turn: the targets are looked at anew.
    pub(crate) fn turn(&mut self, place: Place, random: u64) {
        self.place = Some(place);
        if let Some(way) = &mut self.way {
            way.picker = Picker::new(random);
        }
    }

    /// Notes what became of a target.
    pub(crate) fn note(&mut self, words: String) {
        self.tried.push(words);
    }

    /// What a client is told where nobody answered and nobody else is asked, though there are other
    /// targets: what became of each. `None` if the last failure says it all: it took its client's
    /// time, or would be the same elsewhere.
    pub(crate) fn given_up<B>(&mut self, last: &Unanswered<B>, now_ms: u64) -> Option<Fault> {
        let failed = last.failed.filter(|failed| failed.next != Next::Answer)?;
        let is_worth_it = !self.tried.is_empty() || is_fast(failed.took_ms);
        if last.reply.is_ok() || !self.has_more() || !is_worth_it {
            return None;
        }
        self.note(last.words());
        let targets = self.way.as_ref()?.plan.targets().len();
        if self.tried.len() < targets {
            self.note(String::from("nobody else was asked"));
        }
        Some(self.no_target(now_ms))
    }

    /// The fault of a request that no target could serve.
    fn no_target(&self, now_ms: u64) -> Fault {
        let nothing = "No target can serve this now";
        let Some(way) = &self.way else { return Fault::new(Code::NoTarget, nothing) };
        // Who is only short of room is as well as a limit that is used up.
        let code = match self.tried.is_empty() && way.picker.is_short_of_room() {
            true => Code::RateLimited,
            false => Code::NoTarget,
        };
        let skipped = way.picker.skipped().iter().map(|skipped| {
            let target = &way.plan.targets()[skipped.target];
            format!("{}: {}", target.name(), skipped.skip)
        });
        let tried = self.tried.iter().map(|words| words.trim_end_matches('.').to_owned());
        let all: Vec<String> = tried.chain(skipped).collect();
        let message = match all.is_empty() {
            true => format!("{nothing}."),
            false => format!("{nothing}: {}.", all.join("; ")),
        };
        let wait = way.picker.retry_after_ms(now_ms).unwrap_or(1000);
        retry_after(Fault::new(code, message), Duration::from_millis(wait))
    }
}

impl Context {
    /// Reads a JSON request, and admits it to the next target of its plan: of the model that it
    /// names, or of the one that an exhausted budget names in its place.
    pub(crate) fn admitted(
        &mut self,
        incoming: Incoming<'_>,
        course: &mut Course,
    ) -> Result<Step, Fault> {
        let (headers, operation) = (&incoming.parts.headers, incoming.endpoint.operation);
        let mut wish = incoming.wish()?;
        let mut checked = false;
        let mut refused = None;
        course.is_short = false;
        loop {
            let model = course.instead.as_deref().unwrap_or(&wish.named).to_owned();
            self.note_model(&model);
            let way = match &mut course.way {
                Some(way) => way,
                none => none.insert(self.way(&model, course.given.as_ref(), &wish)?),
            };
            if !std::mem::replace(&mut checked, true) {
                wish.check()?;
            }
            if operation == Operation::Chat
                && course.given.is_none()
                && let Some(composed) = way.plan.composed()
            {
                self.caller.check_model(&model)?;
                return Ok(Step::Composed(Arc::clone(composed)));
            }
            if course.place.is_none()
                && course.tried.is_empty()
                && way.plan.queue().is_some_and(|queue| !queue.line.is_empty())
            {
                self.caller.check_model(&model)?;
                course.is_short = true;
                return Err(queue::behind_others(&model));
            }
            let Some(candidate) = self.candidate(way, headers, operation) else {
                let is_short = refused.is_some() || way.picker.is_short_of_room();
                course.is_short = is_short && course.tried.is_empty();
                return Err(refused.unwrap_or_else(|| course.no_target(self.settlement.now_ms())));
            };
            let clocks = way.plan.targets()[candidate.target].route.clocks;
            if !course.tried.is_empty() && self.start + clocks.total <= Instant::now() {
                // Its answer would be late before it is asked.
                way.picker.set_aside();
                continue;
            }
            match self.admit_to(&wish, &model, way, candidate) {
                Ok(ask) => {
                    if let Some(place) = course.place.take() {
                        place.admitted();
                    }
                    // What a composed model is made of is not mirrored: nobody gets its answer as such.
                    if course.given.is_none() {
                        self.draw(&way.plan, &model, incoming);
                    }
                    return Ok(Step::Ask(ask));
                }
                Err(Refusal::Fault(fault)) => return Err(fault),
                Err(Refusal::Target(fault)) => {
                    way.picker.set_aside();
                    refused = Some(fault);
                }
                Err(Refusal::Downgrade(model, fault)) if self.leaves_region(course, &model) => {
                    return Err(fault);
                }
                Err(Refusal::Downgrade(model, fault)) if !course.may_turn() => {
                    course.turned = Some(model);
                    return Err(fault);
                }
                Err(Refusal::Downgrade(model, _)) => {
                    let tried = std::mem::take(&mut course.tried);
                    *course = Course { instead: Some(model), tried, ..Course::default() };
                }
            }
        }
    }

    /// Whether another model would take the request out of a region that its plan may not leave.
    fn leaves_region(&self, course: &Course, model: &str) -> bool {
        let Some(way) = &course.way else { return false };
        self.snapshot.plan(model).is_ok_and(|plan| !plan.stays_within(&way.plan))
    }

    /// Admits the request to the next target of its plan, to be asked beside those that are asked
    /// already; `None` if there is none that has room for it, or it is not time.
    pub(crate) fn admitted_beside(
        &mut self,
        incoming: Incoming<'_>,
        course: &mut Course,
    ) -> Option<Ask> {
        let (headers, operation) = (&incoming.parts.headers, incoming.endpoint.operation);
        let way = course.way.as_mut().filter(|way| way.plan.may_ask_beside())?;
        // What is free is for those who wait.
        if way.plan.queue().is_some_and(|queue| !queue.line.is_empty()) {
            return None;
        }
        let mut wish = incoming.wish().ok()?;
        wish.check().ok()?;
        let model = course.instead.as_deref().unwrap_or(&wish.named).to_owned();
        loop {
            let candidate = self.candidate(way, headers, operation)?;
            match self.admit_to(&wish, &model, way, candidate) {
                Ok(ask) => {
                    way.plan.tally().beside.count();
                    return Some(ask);
                }
                Err(_) => way.picker.set_aside(),
            }
        }
    }

    /// Admits the request to one target.
    fn admit_to(
        &mut self,
        wish: &Wish<'_>,
        model: &str,
        way: &mut Way,
        candidate: Candidate,
    ) -> Result<Ask, Refusal> {
        way.target = candidate.target;
        let route = Arc::clone(&way.plan.targets()[candidate.target].route);
        let strict = self.settlement.has_budget(&route);
        let ask = wish.ask(&route, &self.snapshot, strict).map_err(Refusal::Fault)?;
        let ask = match &way.said {
            None => ask,
            Some(said) => said.ask(ask, strict).map_err(Refusal::Target)?,
        };
        self.settlement.note(|record| {
            record.route = Some(Arc::clone(&route));
            record.stream = ask.stream;
        });
        self.admit(model, &route, &ask.bound)?;
        self.settlement.lend(candidate.lease);
        Ok(ask)
    }

    /// Notes the model that is asked for.
    pub(crate) fn note_model(&mut self, model: &str) {
        self.settlement.note(|record| record.model = model.chars().take(LOGGED_NAME).collect());
    }

    fn way(&self, model: &str, given: Option<&Arc<Plan>>, wish: &Wish<'_>) -> Result<Way, Fault> {
        let plan = match given {
            Some(plan) => Arc::clone(plan),
            None => {
                let plan = self.snapshot.plan(model);
                plan.map_err(|unknown| unknown_model(model, &unknown))?
            }
        };
        let looked = Looked::at(&wish.envelope, wish.body, plan.needs());
        plan.budget().earn();
        Ok(Way { plan, picker: Picker::new(self.random), looked, target: 0, said: None })
    }

    fn candidate(
        &self,
        way: &mut Way,
        headers: &HeaderMap,
        operation: Operation,
    ) -> Option<Candidate> {
        let metadata = match way.plan.needs().metadata {
            true => way.looked.metadata(&self.caller),
            false => Vec::new(),
        };
        let facts = way.looked.facts(operation, headers, &self.caller, &metadata, self.now.ms);
        way.plan.next(&mut way.picker, &facts, self.settlement.now_ms())
    }
}
