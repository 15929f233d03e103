"""What watches and tells the time: alarms, dashboards, log groups, topics, schedules."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from client.sweeping.leftover import Leftover, Scope, size

SHORT_PERIOD_S = 60
"""An alarm on a shorter period is billed as one of high resolution."""


class Alarms:
    """CloudWatch alarms on metrics."""

    title = "alarm"

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("cloudwatch")

    def find(self) -> Iterator[Leftover]:
        """Yield the app's alarms; each metric of an alarm is billed."""
        pages = self._client.get_paginator("describe_alarms").paginate(AlarmTypes=["MetricAlarm"])
        listed = [alarm for page in pages for alarm in page["MetricAlarms"]]
        for alarm in self._scope.owned(listed, lambda found: self._tags(found["AlarmArn"])):
            metrics = sum("MetricStat" in metric for metric in alarm.get("Metrics", [])) or 1
            short = alarm.get("Period", SHORT_PERIOD_S) < SHORT_PERIOD_S
            price = self._scope.prices.per_month["alarm_metric_high_resolution" if short else "alarm_metric"]
            yield Leftover(self.title, alarm["AlarmName"], alarm["StateValue"], usd_month=metrics * price.usd)

    def remove(self, leftover: Leftover) -> None:
        """Delete an alarm."""
        self._client.delete_alarms(AlarmNames=[leftover.name])

    def _tags(self, arn: str) -> list[Mapping[str, Any]]:
        return list(self._client.list_tags_for_resource(ResourceARN=arn)["Tags"])


class Dashboards:
    """CloudWatch dashboards; they carry no tags, so the name decides."""

    title = "dashboard"

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("cloudwatch")

    def find(self) -> Iterator[Leftover]:
        """Yield the app's dashboards."""
        pages = self._client.get_paginator("list_dashboards").paginate()
        for dashboard in (entry for page in pages for entry in page["DashboardEntries"]):
            name = dashboard["DashboardName"]
            if name == self._scope.endpoint or self._scope.owns_name(name):
                yield Leftover(self.title, name, usd_month=self._scope.prices.per_month["dashboard"].usd)

    def remove(self, leftover: Leftover) -> None:
        """Delete a dashboard."""
        self._client.delete_dashboards(DashboardNames=[leftover.name])


class LogGroups:
    """Log groups: the stacks' own, and those that SageMaker, CodeBuild and Lambda make by themselves."""

    title = "log group"

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("logs")

    def find(self) -> Iterator[Leftover]:
        """Yield the app's log groups."""
        pages = self._client.get_paginator("describe_log_groups").paginate()
        listed = [group for page in pages for group in page["logGroups"]]
        named = {group["logGroupName"] for group in listed if self._is_made_for_it(group["logGroupName"])}
        others = [group for group in listed if group["logGroupName"] not in named]
        tagged = {group["logGroupName"] for group in self._scope.owned(others, self._tags)}
        for group in listed:
            name = group["logGroupName"]
            if name in named | tagged:
                stored = group.get("storedBytes", 0)
                month = self._scope.prices.storage_month("logs", stored)
                yield Leftover(self.title, name, size(stored), usd_month=month, holds_data=stored > 0)

    def remove(self, leftover: Leftover) -> None:
        """Delete a log group with its streams and metric filters."""
        self._client.delete_log_group(logGroupName=leftover.name)

    def _is_made_for_it(self, name: str) -> bool:
        if name == f"/aws/sagemaker/Endpoints/{self._scope.endpoint}":
            return True
        service, _, rest = name.removeprefix("/aws/").partition("/")
        return service in ("codebuild", "lambda") and self._scope.owns_name(rest)

    def _tags(self, group: Mapping[str, Any]) -> list[Mapping[str, Any]]:
        arn = str(group["arn"]).removesuffix(":*")
        tags = self._client.list_tags_for_resource(resourceArn=arn)["tags"]
        return [{"key": key, "value": value} for key, value in tags.items()]


class Topics:
    """SNS topics."""

    title = "topic"

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("sns")

    def find(self) -> Iterator[Leftover]:
        """Yield the app's topics."""
        pages = self._client.get_paginator("list_topics").paginate()
        listed = [topic["TopicArn"] for page in pages for topic in page["Topics"]]
        for arn in self._scope.owned(
            listed, lambda found: self._client.list_tags_for_resource(ResourceArn=found)["Tags"]
        ):
            yield Leftover(self.title, arn)

    def remove(self, leftover: Leftover) -> None:
        """Delete a topic and its subscriptions."""
        self._client.delete_topic(TopicArn=leftover.name)


class Schedules:
    """Schedules of EventBridge Scheduler, which could switch the endpoint on again; they carry no tags."""

    title = "schedule"

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._client = scope.session.client("scheduler")

    def find(self) -> Iterator[Leftover]:
        """Yield the app's schedules; one outside the default group is named `group/name`."""
        pages = self._client.get_paginator("list_schedules").paginate()
        for schedule in (entry for page in pages for entry in page["Schedules"]):
            name, group = schedule["Name"], schedule["GroupName"]
            if self._scope.owns_name(name):
                shown = name if group == "default" else f"{group}/{name}"
                yield Leftover(self.title, shown, schedule.get("State", ""))

    def remove(self, leftover: Leftover) -> None:
        """Delete a schedule."""
        group, _, name = leftover.name.rpartition("/")
        self._client.delete_schedule(Name=name, GroupName=group or "default")
