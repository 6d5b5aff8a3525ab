//! The cloud itself: what of ours is in it, and one request for each change. The SDK waits and tries again, boundedly.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, SdkConfig};
use aws_sdk_eventbridge as eventbridge;
use aws_sdk_eventbridge::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_eventbridge::types::{DeadLetterConfig, RetryPolicy, RuleState, Tag, Target};
use aws_sdk_lambda as lambda;
use aws_smithy_http_client::Builder;
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use base::{Error, Result};
use serde_json::Value;

use crate::plan::{DELIVERY_TRIES, EVENT_AGE_S, PREFIX};
use crate::reconcile::{Change, Found, FoundPermission, FoundRule, FoundTarget, TAG, TARGET_ID};

/// Tries of one request, with the SDK's waits between them.
const TRIES: u32 = 5;

/// How long one request may take, with all its tries.
const REQUEST_TIME: Duration = Duration::from_secs(60);

/// Pages of one list: 300 rules are on a bus.
const PAGES_MAX: usize = 100;

/// Items of a page.
const PAGE: i32 = 100;

/// EventBridge and Lambda of one account and Region.
pub(crate) struct Cloud {
    events: eventbridge::Client,
    functions: lambda::Client,
}

impl Cloud {
    /// Connects as the AWS CLI would: the environment, its files, the machine's role.
    ///
    /// # Errors
    /// `Config`, where no Region is set.
    pub(crate) async fn connect() -> Result<Self> {
        let http = Builder::new().tls_provider(Provider::Rustls(CryptoMode::Ring)).build_https();
        let config: SdkConfig = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .retry_config(RetryConfig::standard().with_max_attempts(TRIES))
            .timeout_config(TimeoutConfig::builder().operation_timeout(REQUEST_TIME).build())
            .load()
            .await;
        if config.region().is_none() {
            return Err(Error::config("find the Region: none is set")
                .hint("set `AWS_REGION`, as `sa-east-1`, or `region` of the profile"));
        }
        Ok(Self {
            events: eventbridge::Client::new(&config),
            functions: lambda::Client::new(&config),
        })
    }

    /// What is there: rules that are named as ours, and of these functions what they are and who may start them.
    ///
    /// # Errors
    /// `Upstream` or `Store` (unreachable), where a service refuses.
    pub(crate) async fn look(&self, tasks: &[&str]) -> Result<Found> {
        let mut found = Found { rules: self.rules().await?, ..Found::default() };
        let mut names: Vec<String> = tasks.iter().map(|task| (*task).to_owned()).collect();
        // Functions of rows that are gone are known by what their rules start.
        for target in found.rules.iter().filter(|rule| rule.is_ours).flat_map(|rule| &rule.targets)
        {
            if let Some((_, name)) = target.arn.split_once(":function:") {
                names.push(name.to_owned());
            }
        }
        names.sort_unstable();
        names.dedup();
        for name in names {
            if let Some(arn) = self.function(&name).await? {
                let permissions = self.permissions(&name).await?;
                found.functions.insert(name.clone(), arn);
                found.permissions.insert(name, permissions);
            }
        }
        Ok(found)
    }

    async fn rules(&self) -> Result<Vec<FoundRule>> {
        let (mut rules, mut page) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let request = self.events.list_rules().name_prefix(PREFIX).limit(PAGE);
            let answer = request
                .set_next_token(page)
                .send()
                .await
                .map_err(|cause| failed("list the rules", cause))?;
            for rule in answer.rules() {
                let name = rule.name().unwrap_or_default().to_owned();
                let is_ours = self.is_ours(&name, rule.arn().unwrap_or_default()).await?;
                let targets = if is_ours { self.targets(&name).await? } else { Vec::new() };
                let pattern = rule.event_pattern().and_then(|text| serde_json::from_str(text).ok());
                rules.push(FoundRule {
                    expression: rule
                        .schedule_expression()
                        .filter(|text| !text.is_empty())
                        .map(ToOwned::to_owned),
                    pattern,
                    description: rule.description().map(ToOwned::to_owned),
                    state: rule.state().map(RuleState::as_str).unwrap_or_default().to_owned(),
                    is_ours,
                    targets,
                    name,
                });
            }
            page = answer.next_token().map(ToOwned::to_owned);
            if page.is_none() {
                return Ok(rules);
            }
        }
        Err(Error::upstream(format!("list the rules: more than {PAGES_MAX} pages")))
    }

    async fn is_ours(&self, name: &str, arn: &str) -> Result<bool> {
        let answer = self.events.list_tags_for_resource().resource_arn(arn).send().await;
        let answer =
            answer.map_err(|cause| failed(&format!("read the tags of `{name}`"), cause))?;
        Ok(answer.tags().iter().any(|tag| (tag.key(), tag.value()) == TAG))
    }

    async fn targets(&self, rule: &str) -> Result<Vec<FoundTarget>> {
        let (mut targets, mut page) = (Vec::new(), None);
        for _ in 0..PAGES_MAX {
            let request = self.events.list_targets_by_rule().rule(rule).set_next_token(page);
            let answer = request
                .send()
                .await
                .map_err(|cause| failed(&format!("list the targets of `{rule}`"), cause))?;
            targets.extend(answer.targets().iter().map(|target| {
                let retry = target.retry_policy();
                FoundTarget {
                    id: target.id().to_owned(),
                    arn: target.arn().to_owned(),
                    event_age_s: retry
                        .and_then(RetryPolicy::maximum_event_age_in_seconds)
                        .map(i64::from),
                    tries: retry.and_then(RetryPolicy::maximum_retry_attempts).map(i64::from),
                    dead_letters: target
                        .dead_letter_config()
                        .and_then(DeadLetterConfig::arn)
                        .map(ToOwned::to_owned),
                    has_input: target.input().is_some()
                        || target.input_path().is_some()
                        || target.input_transformer().is_some(),
                }
            }));
            page = answer.next_token().map(ToOwned::to_owned);
            if page.is_none() {
                return Ok(targets);
            }
        }
        Err(Error::upstream(format!("list the targets of `{rule}`: more than {PAGES_MAX} pages")))
    }

    async fn function(&self, name: &str) -> Result<Option<String>> {
        let answer = self.functions.get_function_configuration().function_name(name).send().await;
        match answer {
            Ok(answer) => Ok(answer.function_arn().map(ToOwned::to_owned)),
            Err(cause) if is_absent(&cause) => Ok(None),
            Err(cause) => Err(failed(&format!("find the function `{name}`"), cause)),
        }
    }

    async fn permissions(&self, function: &str) -> Result<Vec<FoundPermission>> {
        let answer = match self.functions.get_policy().function_name(function).send().await {
            Ok(answer) => answer,
            // A function that nobody may start has no policy.
            Err(cause) if is_absent(&cause) => return Ok(Vec::new()),
            Err(cause) => return Err(failed(&format!("read the policy of `{function}`"), cause)),
        };
        let policy: Value =
            serde_json::from_str(answer.policy().unwrap_or("{}")).map_err(|cause| {
                Error::upstream(format!("read the policy of `{function}`")).because(cause)
            })?;
        let statements = policy["Statement"].as_array().into_iter().flatten();
        let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
        let source = |statement: &Value| {
            let of = |test: &str| text(&statement["Condition"][test]["AWS:SourceArn"]);
            of("ArnLike").or_else(|| of("ArnEquals"))
        };
        Ok(statements
            .filter_map(|one| {
                Some(FoundPermission { sid: text(&one["Sid"])?, source_arn: source(one) })
            })
            .collect())
    }

    /// Makes one change. What is already as it shall be is fine: an earlier run, cut off, may have done it.
    ///
    /// # Errors
    /// As [`look`](Self::look).
    pub(crate) async fn make(&self, change: &Change) -> Result<()> {
        let what = || change.to_string();
        match change {
            Change::PutRule { rule, expression, pattern, description, state, is_new, .. } => {
                let mut request = self.events.put_rule().name(rule);
                request = request
                    .set_schedule_expression(expression.clone())
                    .set_event_pattern(pattern.as_ref().map(Value::to_string))
                    .description(description)
                    .state(RuleState::from(state.as_str()));
                if *is_new {
                    let tag = Tag::builder().key(TAG.0).value(TAG.1).build();
                    request = request
                        .tags(tag.map_err(|cause| Error::config("build the tag").because(cause))?);
                }
                request.send().await.map(drop).map_err(|cause| failed(&what(), cause))
            }
            Change::AddPermission { function, sid, source_arn } => {
                let request = self
                    .functions
                    .add_permission()
                    .function_name(function)
                    .statement_id(sid)
                    .action("lambda:InvokeFunction")
                    .principal("events.amazonaws.com")
                    .source_arn(source_arn);
                match request.send().await {
                    Err(cause) if cause.code() == Some("ResourceConflictException") => Ok(()),
                    answer => answer.map(drop).map_err(|cause| failed(&what(), cause)),
                }
            }
            Change::RemovePermission { function, sid } => {
                match self
                    .functions
                    .remove_permission()
                    .function_name(function)
                    .statement_id(sid)
                    .send()
                    .await
                {
                    Err(cause) if is_absent(&cause) => Ok(()),
                    answer => answer.map(drop).map_err(|cause| failed(&what(), cause)),
                }
            }
            Change::PutTargets { rule, arn, dead_letters } => {
                let seconds = i32::try_from(EVENT_AGE_S).unwrap_or(i32::MAX);
                let tries = i32::try_from(DELIVERY_TRIES).unwrap_or(i32::MAX);
                let retry = RetryPolicy::builder()
                    .maximum_event_age_in_seconds(seconds)
                    .maximum_retry_attempts(tries);
                let queue =
                    dead_letters.as_ref().map(|arn| DeadLetterConfig::builder().arn(arn).build());
                let target = Target::builder()
                    .id(TARGET_ID)
                    .arn(arn)
                    .retry_policy(retry.build())
                    .set_dead_letter_config(queue)
                    .build()
                    .map_err(|cause| Error::config("build the target").because(cause))?;
                let answer = self.events.put_targets().rule(rule).targets(target).send().await;
                let answer = answer.map_err(|cause| failed(&what(), cause))?;
                refused(
                    &what(),
                    answer.failed_entries().first().and_then(|entry| entry.error_message()),
                    answer.failed_entry_count(),
                )
            }
            Change::RemoveTargets { rule, ids } => {
                let request = self.events.remove_targets().rule(rule).set_ids(Some(ids.clone()));
                let answer = request.send().await.map_err(|cause| failed(&what(), cause))?;
                refused(
                    &what(),
                    answer.failed_entries().first().and_then(|entry| entry.error_message()),
                    answer.failed_entry_count(),
                )
            }
            Change::DeleteRule { rule } => self
                .events
                .delete_rule()
                .name(rule)
                .send()
                .await
                .map(drop)
                .map_err(|cause| failed(&what(), cause)),
        }
    }
}

/// Requests of several entries answer 200 also where one was refused.
fn refused(what: &str, message: Option<&str>, count: i32) -> Result<()> {
    match count {
        0 => Ok(()),
        _ => {
            Err(Error::upstream(format!("{what}: `{}`", message.unwrap_or("an entry was refused"))))
        }
    }
}

fn is_absent<E: ProvideErrorMetadata, R>(cause: &SdkError<E, R>) -> bool {
    cause.code() == Some("ResourceNotFoundException")
}

/// What a service said, or that it could not be asked.
fn failed<E, R>(what: &str, cause: SdkError<E, R>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
    R: std::fmt::Debug + Send + Sync + 'static,
{
    let message = format!("do `{what}`");
    match &cause {
        SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) => {
            Error::unreachable(message).because(cause).hint(
                "check the network, `AWS_REGION` and the credentials, which are found as the AWS CLI finds them",
            )
        }
        _ => {
            let code = cause.code().unwrap_or("no code").to_owned();
            let said = cause.message().unwrap_or("no message").to_owned();
            Error::upstream(format!("{message}: `{code}`: {said}"))
        }
    }
}

/// What each rule is for, by name, as its description says.
pub(crate) fn descriptions(plan: &crate::plan::Plan<'_>) -> BTreeMap<String, String> {
    let mut all = BTreeMap::new();
    for function in &plan.functions {
        for start in &function.starts {
            all.insert(start.name.clone(), function.row.does.clone());
        }
        all.insert(function.continuation.name.clone(), crate::plan::GOES_ON.to_owned());
    }
    all
}
