//! What many ask for at once: slots, and uses of API keys.

use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;

use base::address::Address;
use base::report::Status;
use jiff::SignedDuration;
use stores::state::{BUDGETS_KEPT, BudgetRow, Claim, Postgres, Sqlite, State};

use super::{Test, World, begin, by_name, key, noon, report, runtime};

pub(super) const SUITE: &[(&str, Test)] = by_name![
    a_budget_is_spent_evenly_and_never_beyond
    slots_are_claimed_exactly_once
    a_budget_holds_over_processes_and_no_key_is_idle
];

async fn a_budget_is_spent_evenly_and_never_beyond(world: Arc<World>) {
    let state = world.open().await;
    let keys = [key("b", 2), key("a", 2)];
    let spend =
        async |window: &str, now| state.spend("otx", window, &keys, now).await.expect("an answer");
    let day = "2026-03-01";
    for expected in [Some(0), Some(1), Some(0), Some(1), None, None] {
        assert_eq!(spend(day, noon()).await, expected);
    }
    let budgets = async || {
        let rows = state.budgets("otx").await.expect("budgets");
        let told = |row: BudgetRow| {
            let blocked = row.reason.zip(row.blocked_until).is_some();
            (row.id, row.window.unwrap_or_default(), row.spent, blocked)
        };
        rows.into_iter().map(told).collect::<Vec<_>>()
    };
    let row =
        |id: &str, window: &str, spent, blocked| (id.to_owned(), window.to_owned(), spent, blocked);
    assert_eq!(budgets().await, [row("a", day, 2, false), row("b", day, 2, false)]);
    assert_eq!(state.spend("misp", day, &keys[..1], noon()).await.expect("an answer"), Some(0));
    // The next window starts at zero, and one that is counted by another clock is not forgotten.
    let next = "2026-03-02";
    assert_eq!(spend(next, noon()).await, Some(0));
    assert_eq!(spend(day, noon()).await, None);
    // A blocked key leaves its uses to the other, for as long as it is blocked.
    let later = noon() + SignedDuration::from_hours(1);
    state.block("otx", "a", later, "status `429`").await.expect("it is blocked");
    assert_eq!(spend(next, noon()).await, Some(0));
    assert_eq!(spend(next, noon()).await, None);
    assert_eq!(spend(next, later).await, Some(1));
    let expected = [
        row("a", day, 2, true),
        row("a", next, 1, true),
        row("b", day, 2, false),
        row("b", next, 2, false),
    ];
    assert_eq!(budgets().await, expected);
    assert_eq!(state.reset_budgets("otx", next).await.expect("an answer"), 2);
    assert_eq!(spend(next, later).await, Some(0));
    // Windows of long ago are forgotten.
    let far = noon() + BUDGETS_KEPT + SignedDuration::from_hours(2);
    assert_eq!(spend("2026-03-09", far).await, Some(0));
    assert_eq!(
        budgets().await,
        [row("a", "2026-03-09", 0, true), row("b", "2026-03-09", 1, false)]
    );
    state.block("otx", "c", far, "never used").await.expect("it is blocked");
    assert!(budgets().await.contains(&row("c", "", 0, true)));
    assert_eq!(state.spend("otx", "x", &[], far).await.expect("an answer"), None);
}

/// Two processes with two claimants each.
async fn slots_are_claimed_exactly_once(world: Arc<World>) {
    let count = world.many(10_000);
    let arguments = [CLAIMER, &count.to_string(), &world.place()];
    let processes = [spawn(&arguments), spawn(&arguments)];
    let won: Vec<u32> = processes.into_iter().flat_map(numbers).collect();
    assert_eq!((won.len(), won.iter().sum::<u32>()), (4, count), "won: {won:?}");
    let runs = world.open().await.runs(None, count + 1).await.expect("runs");
    assert_eq!(runs.len(), count as usize);
    // A slot that was claimed once more would be in its second attempt.
    assert!(runs.iter().all(|run| run.attempt == 1 && run.status == "complete"));
}

/// Four processes on two keys, of which one is blocked for some of the time by one that says so.
async fn a_budget_holds_over_processes_and_no_key_is_idle(world: Arc<World>) {
    const LIMIT: u32 = 100;
    let state = world.open().await;
    // All of the first window's uses are of the second key while the first is blocked.
    state.block("otx", "one", noon() + SignedDuration::from_hours(1), "429").await.expect("done");
    for (window, expected) in [("first", [0, LIMIT]), ("second", [LIMIT, LIMIT])] {
        if window == "second" {
            state.block("otx", "one", noon(), "it works again").await.expect("it is unblocked");
        }
        let arguments = [SPENDER, &LIMIT.to_string(), &world.place(), window];
        let processes =
            [spawn(&arguments), spawn(&arguments), spawn(&arguments), spawn(&arguments)];
        let mut got = [0, 0];
        for process in processes {
            let won = numbers(process);
            got = [got[0] + won[0], got[1] + won[1]];
        }
        assert_eq!(got, expected, "{window}");
        let rows = state.budgets("otx").await.expect("budgets");
        let spent: Vec<u32> = rows
            .iter()
            .filter(|row| row.window.as_deref() == Some(window))
            .map(|row| row.spent)
            .collect();
        assert_eq!(spent, expected, "{window}");
    }
}

/// This binary as a process with these arguments.
fn spawn(arguments: &[&str]) -> Child {
    Command::new(std::env::current_exe().expect("this file"))
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts")
}

/// What such a process says.
#[track_caller]
fn numbers(process: Child) -> Vec<u32> {
    let ended = process.wait_with_output().expect("it ends");
    assert!(ended.status.success(), "a process failed; it says why above");
    let said = String::from_utf8(ended.stdout).expect("numbers");
    said.split_whitespace().map(|one| one.parse().expect("a number")).collect()
}

/// The words by which this binary becomes one of those processes.
const CLAIMER: &str = "claim-slots";
const SPENDER: &str = "spend-budget";

/// The end of this process, where it was started to claim slots or to spend a budget: it says how many each of its claimants
/// got, or how often it got each key.
#[expect(clippy::print_stdout, reason = "its parent reads it")]
pub(crate) fn claimer() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, word, count, place, rest @ ..] = arguments.as_slice() else { return None };
    let (is_claimer, is_spender) = (word == CLAIMER, word == SPENDER);
    if !is_claimer && !is_spender {
        return None;
    }
    let count: u32 = count.parse().expect("a number");
    runtime().block_on(async {
        if is_spender {
            let [one, two] = spend_all(&*open_at(place).await, count, &rest[0]).await;
            println!("{one} {two}");
            return;
        }
        // From both ends, so that they meet and also race for each slot.
        let claimants = [false, true].map(|is_backwards| {
            let place = place.clone();
            tokio::spawn(
                async move { claim_all(&*open_at(&place).await, count, is_backwards).await },
            )
        });
        for claimant in claimants {
            println!("{}", claimant.await.expect("no panic"));
        }
    });
    Some(ExitCode::SUCCESS)
}

/// Spends until nothing is left; gives how often it got each key.
async fn spend_all(state: &dyn State, limit: u32, window: &str) -> [u32; 2] {
    let keys = [key("one", limit), key("two", limit)];
    let mut got = [0, 0];
    while let Some(place) = state.spend("otx", window, &keys, noon()).await.expect("an answer") {
        got[place] += 1;
    }
    got
}

/// Takes every slot that is to be had, and finishes it; gives how many it got.
async fn claim_all(state: &dyn State, count: u32, is_backwards: bool) -> u32 {
    let mut won = 0;
    for number in 0..count {
        let number = if is_backwards { count - 1 - number } else { number };
        let slot = noon() + SignedDuration::from_mins(number.into());
        if let Claim::Run(hold) = begin(state, slot).await {
            won += 1;
            state.finish(*hold, &report(Status::Complete), noon()).await.expect("it is finished");
        }
    }
    won
}

/// The store in a folder, or at an address.
async fn open_at(place: &str) -> Arc<dyn State> {
    if place.contains("://") {
        let address = Address::parse(place).expect("an address");
        return Arc::new(Postgres::open(&address).await.expect("it opens"));
    }
    Arc::new(Sqlite::open(Path::new(place)).await.expect("it opens"))
}
