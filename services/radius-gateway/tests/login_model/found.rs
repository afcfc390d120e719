//! What random steps have found, and what they may not reach, step by step.

use crate::support::*;
use crate::verification::Factor;
use crate::{FORGOTTEN_MS, Login, Model, PEOPLE, Step, TICK_MS, Way, code};
use radius_gateway::RadiusSection;
use radius_wire::Code;
use std::collections::HashMap;

#[tokio::test(start_paused = true)]
async fn a_request_in_the_place_of_another_nodes_is_begun_within_half_a_second() {
    // by a node that works on one of which no other may wait for the answer, or of which one may
    for station in [None, Some(0)] {
        let mut model = Model::start().await;
        let login = Login { who: 0, factor: Factor::Phone, right_password: true, station };
        model.take(Step::Login(login, Way { port: 0, node: 0 })).await.expect("it holds");
        model.pass(7).await.expect("it holds");
        model.take(Step::Instead { of: 0, login, node: 1 }).await.expect("it holds");
        model.pass(9).await.expect("it holds");
        let seen = model.verification.seen();
        assert_eq!(seen.prompts, HashMap::from([(0, 1), (1, 1)]), "{station:?}");
        assert!(seen.refused_beside.is_empty());
        model.verification.says("ann", true);
        model.finish().await.expect("it holds");
    }
}

#[tokio::test(start_paused = true)]
async fn who_was_asked_for_a_look_alike_alone_is_asked_no_more_when_another_login_has_its_place() {
    // seeds 114 and 127: a look-alike has the place of the first at another node, and waits for its answer, which then nobody
    // else does
    for (node, who) in [(1, 0), (1, 1), (0, 0), (0, 1)] {
        let mut model = Model::start().await;
        let login = Login { who: 0, factor: Factor::Phone, right_password: true, station: Some(0) };
        let [first, second] = [0, 1].map(|node| Way { port: 0, node });
        model.take(Step::Login(login, first)).await.expect("it holds");
        model.take(Step::Again { of: 0, same_identifier: true, way: second }).await.expect("it holds");
        model.take(Step::Instead { of: 0, login: Login { who, ..login }, node }).await.expect("it holds");
        model.pass(30).await.expect("it holds");
        let seen = model.verification.seen();
        assert_eq!(seen.prompts, HashMap::from([(0, 1), (1, 1)]), "at node {node}, of {who}");
        assert!(seen.refused_beside.is_empty(), "at node {node}, of {who}");
        model.verification.says(PEOPLE[0].0, false);
        model.verification.says(PEOPLE[1].0, false);
        model.finish().await.expect("it holds");
    }
}

#[tokio::test(start_paused = true)]
async fn a_look_alike_that_is_replaced_elsewhere_is_not_refused_with_the_first() {
    // it waits for its own time, and looks meanwhile whether its place is still its own
    const REFUSED_AFTER_MS: u64 = 3_000;
    let section = RadiusSection { reject_delay_ms: REFUSED_AFTER_MS.try_into().expect("allowed"), ..section() };
    let mut model = Model::start_with(section).await;
    let login = Login { who: 0, factor: Factor::Phone, right_password: false, station: Some(0) };
    let way = Way { port: 0, node: 0 };
    model.take(Step::Login(login, way)).await.expect("it holds");
    model.pass(REFUSED_AFTER_MS / 2 / TICK_MS).await.expect("it holds");
    model.take(Step::Again { of: 0, same_identifier: false, way }).await.expect("it holds");
    model.pass(REFUSED_AFTER_MS / 2 / TICK_MS).await.expect("it holds");
    assert_eq!(code(&model.sendings[0].heard), Some(Code::AccessReject));
    model.take(Step::Instead { of: 0, login: Login { who: 1, ..login }, node: 1 }).await.expect("it holds");
    model.finish().await.expect("it holds");
}

#[tokio::test(start_paused = true)]
async fn a_look_alike_that_crosses_the_end_of_the_first_is_answered() {
    // seed 147: at another node, in the moment in which a silent directory is given up. Behind it that is a login of its own.
    let login = Login { who: 0, factor: Factor::Phone, right_password: true, station: Some(0) };
    for ticks in 57..=62 {
        let mut model = Model::start().await;
        model.take(Step::Directory { silent: true }).await.expect("it holds");
        model.take(Step::Login(login, Way { port: 0, node: 0 })).await.expect("it holds");
        model.pass(ticks).await.expect("it holds");
        let way = Way { port: 0, node: 1 };
        model.take(Step::Again { of: 0, same_identifier: false, way }).await.expect("it holds");
        model.finish().await.expect("it holds");
    }
}

#[tokio::test(start_paused = true)]
async fn a_copy_that_crosses_its_answer_gets_it_again() {
    // at the node that answers, and at another one
    let login = Login { who: 0, factor: Factor::Phone, right_password: false, station: Some(0) };
    for (node, ticks) in [(0, 7), (0, 8), (0, 9), (1, 7), (1, 8), (1, 9)] {
        let mut model = Model::start().await;
        model.take(Step::Login(login, Way { port: 0, node: 0 })).await.expect("it holds");
        model.pass(ticks).await.expect("it holds");
        model.take(Step::Copy { of: 0, node }).await.expect("it holds");
        model.finish().await.expect("it holds");
    }
}

#[tokio::test(start_paused = true)]
async fn after_many_logins_as_many_tasks_run_as_before() {
    // T-12: of every kind, with copies, retries and replacements, some of them given up
    let mut model = Model::start().await;
    let mut before = 0;
    for round in 0..6 {
        for number in 0..20usize {
            let factor = [Factor::Phone, Factor::Challenge, Factor::Yes, Factor::No][number % 4];
            let station = [None, Some(0), Some(1)][number % 3];
            let login = Login { who: number % 2, factor, right_password: number % 7 != 0, station };
            let way = Way { port: number % 2, node: number / 2 % 2 };
            let steps = [
                Step::Login(login, way),
                Step::Copy { of: 0, node: 1 - way.node },
                Step::Again { of: 0, same_identifier: number % 5 == 0, way },
                Step::Answer { of: 0, right: true, way },
                Step::PersonSays { who: number % 2, yes: number % 3 != 0 },
                Step::Pass { ticks: 20 },
            ];
            for step in steps {
                model.take(step).await.expect("it holds");
            }
        }
        model.pass_in(FORGOTTEN_MS / 1000, 1000).await.expect("it holds");
        let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
        // The first round opens the connections that are kept.
        if round == 0 {
            before = tasks;
        }
        assert!(tasks <= before, "round {round}: {tasks} tasks, {before} after the first");
    }
    model.finish().await.expect("it holds");
}
