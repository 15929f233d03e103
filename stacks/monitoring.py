"""Alarms and a dashboard of the endpoint; where an address or a topic is given, alarms go there.

It knows the endpoint by its names only, so it neither needs the endpoint to be there nor holds it up. An
endpoint that is off has no metrics, and no alarm of this stack takes missing ones for bad.
"""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_logs as logs
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sns_subscriptions as subscriptions
from constructs import Construct

from stacks.endpoint import EndpointStack
from stacks.endpoint_metrics import EndpointMetrics
from stacks.settings import DeploySettings
from stacks.stack import AppStack
from stacks.storage import StorageStack

UNAVAILABLE_PATTERN = '"event=moderation_unavailable"'
"""What the chat container logs for each text that could not be judged (`handler/openchatkit`)."""
UNAVAILABLE_METRIC = "ModerationUnavailable"
FIVE_MINUTES = Duration.minutes(5)
ENOUGH = cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
ABOVE = cloudwatch.ComparisonOperator.GREATER_THAN_THRESHOLD


class MonitoringStack(AppStack):
    """Alarms, dashboard and, where asked for, a topic."""

    def __init__(
        self, scope: Construct, settings: DeploySettings, storage: StorageStack, endpoint: EndpointStack
    ) -> None:
        super().__init__(scope, settings, "Monitoring", "alarms, dashboard")
        self._metrics = EndpointMetrics(settings)
        self._topic = _topic(self, settings, storage)
        self._unavailable = self._count_unavailable(endpoint.log)
        alarms = [alarm for role in settings.roles for alarm in self._of_variant(role)]
        alarms.append(
            self._alarm(
                "ModerationUnavailable",
                "texts could not be judged, and were blocked",
                self._unavailable,
                settings.alarm_moderation_unavailable,
            )
        )
        if settings.alarm_idle_hours:
            alarms.append(
                self._alarm(
                    "Idle",
                    f"no request for {settings.alarm_idle_hours} h, and instances that cost; `ock down`",
                    self._metrics.idle(),
                    1,
                    times=settings.alarm_idle_hours,
                )
            )
        self._dashboard(alarms)

    def _of_variant(self, role: str) -> list[cloudwatch.Alarm]:
        settings, metrics, title = self.settings, self._metrics, role.title()
        return [
            self._alarm(
                f"{title}Errors",
                f"{role} answers with errors",
                metrics.of_variant("Invocation5XXErrors", role, "Sum"),
                settings.alarm_errors_5xx,
            ),
            self._alarm(
                f"{title}Latency",
                f"{role}: one answer in ten takes longer than {settings.alarm_latency_p90_s:g} s",
                metrics.latency(role, "p90"),
                settings.alarm_latency_p90_s,
                comparison=ABOVE,
                times=3,
            ),
            self._alarm(
                f"{title}GpuMemory",
                f"{role}: the GPUs' memory is full",
                metrics.gpu_memory(role),
                settings.alarm_gpu_memory_percent,
                comparison=ABOVE,
                times=3,
            ),
        ]

    def _alarm(
        self,
        identifier: str,
        says: str,
        metric: cloudwatch.IMetric,
        threshold: float,
        *,
        comparison: cloudwatch.ComparisonOperator = ENOUGH,
        times: int = 1,
    ) -> cloudwatch.Alarm:
        alarm = cloudwatch.Alarm(
            self,
            identifier,
            alarm_description=f"{self.settings.endpoint_name}: {says}",
            metric=metric,
            threshold=threshold,
            comparison_operator=comparison,
            evaluation_periods=times,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        if self._topic is not None:
            alarm.add_alarm_action(actions.SnsAction(self._topic))
            alarm.add_ok_action(actions.SnsAction(self._topic))
        return alarm

    def _count_unavailable(self, log: logs.LogGroup) -> cloudwatch.Metric:
        counted = logs.MetricFilter(
            self,
            "UnavailableFilter",
            log_group=log,
            filter_pattern=logs.FilterPattern.literal(UNAVAILABLE_PATTERN),
            metric_namespace=self.settings.name,
            metric_name=UNAVAILABLE_METRIC,
            metric_value="1",
        )
        return counted.metric(statistic="Sum", period=FIVE_MINUTES)

    def _dashboard(self, alarms: list[cloudwatch.Alarm]) -> None:
        metrics, roles = self._metrics, self.settings.roles

        def graph(title: str, *lines: cloudwatch.IMetric) -> cloudwatch.GraphWidget:
            return cloudwatch.GraphWidget(title=title, left=list(lines), width=12)

        dashboard = cloudwatch.Dashboard(self, "Dashboard", default_interval=Duration.hours(6))
        dashboard.add_widgets(cloudwatch.AlarmStatusWidget(alarms=list(alarms), title="Alarms", width=24))
        dashboard.add_widgets(
            graph(
                "Requests a minute", *(metrics.of_variant("Invocations", role, "Sum", 1) for role in roles)
            ),
            graph("Requests at once, an instance", *(metrics.concurrency(role) for role in roles)),
        )
        dashboard.add_widgets(
            graph(
                "Whole answer, s",
                *(metrics.latency(role, one) for role in roles for one in ("p50", "p90", "p99")),
            ),
            graph(
                "First part of a streamed answer, s", metrics.first_chunk("p50"), metrics.first_chunk("p90")
            ),
        )
        dashboard.add_widgets(
            graph(
                "Errors",
                *(metrics.of_variant("Invocation5XXErrors", role, "Sum") for role in roles),
                *(metrics.of_variant("Invocation4XXErrors", role, "Sum") for role in roles),
                metrics.of_variant("MidStreamErrors", "chat", "Sum"),
                self._unavailable,
            ),
            graph(
                "GPUs, %",
                *(one for role in roles for one in (metrics.gpu_memory(role), metrics.gpu_use(role))),
            ),
        )


def _topic(stack: AppStack, settings: DeploySettings, storage: StorageStack) -> sns.ITopic | None:
    if settings.alarm_topic_arn:
        return sns.Topic.from_topic_arn(stack, "Topic", settings.alarm_topic_arn)
    if not settings.alarm_email:
        return None
    topic = sns.Topic(
        stack, "Topic", display_name=f"{settings.name} alarms", master_key=storage.key, enforce_ssl=True
    )
    topic.add_subscription(subscriptions.EmailSubscription(settings.alarm_email))
    return topic
