"""The metrics that SageMaker emits of a real-time endpoint, in units that people read.

Requests are counted in the namespace `AWS/SageMaker`, instances in `/aws/sagemaker/Endpoints`, both with the
dimensions EndpointName and VariantName. Latencies come in microseconds. Utilisation of GPUs is a sum: four
full GPUs are 400 %.
"""

from __future__ import annotations

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch

from stacks.settings import DeploySettings

REQUESTS = "AWS/SageMaker"
INSTANCES = "/aws/sagemaker/Endpoints"
MICROSECONDS = 1_000_000
FIVE_MINUTES = 5
AN_HOUR = 60


class EndpointMetrics:
    """Metrics of one endpoint."""

    def __init__(self, settings: DeploySettings) -> None:
        self._settings = settings

    def of_variant(
        self, name: str, role: str, statistic: str, minutes: int = FIVE_MINUTES, namespace: str = REQUESTS
    ) -> cloudwatch.Metric:
        """Return a metric as it is emitted."""
        return cloudwatch.Metric(
            namespace=namespace,
            metric_name=name,
            dimensions_map={"EndpointName": self._settings.endpoint_name, "VariantName": role},
            statistic=statistic,
            period=Duration.minutes(minutes),
            label=f"{role} {name} {statistic}",
        )

    def latency(self, role: str, statistic: str) -> cloudwatch.MathExpression:
        """Return how long whole answers take, s."""
        return self._seconds("ModelLatency", role, statistic)

    def first_chunk(self, statistic: str) -> cloudwatch.MathExpression:
        """Return how long streamed answers take to begin, s."""
        return self._seconds("FirstChunkModelLatency", "chat", statistic)

    def concurrency(self, role: str) -> cloudwatch.Metric:
        """Return the requests that an instance has at once, which scaling follows."""
        return self.of_variant("ConcurrentRequestsPerModel", role, "Maximum", 1)

    def gpu_memory(self, role: str) -> cloudwatch.MathExpression:
        """Return the share of the GPUs' memory that is taken, %, mean over an instance's GPUs."""
        return self._mean_of_gpus("GPUMemoryUtilization", role)

    def gpu_use(self, role: str) -> cloudwatch.MathExpression:
        """Return how busy the GPUs are, %, mean over an instance's GPUs."""
        return self._mean_of_gpus("GPUUtilization", role)

    def idle(self) -> cloudwatch.MathExpression:
        """Return 1 for an hour in which chat had instances and no request; nothing while there are none."""
        return cloudwatch.MathExpression(
            # Instances report their processors' load whether or not anybody asks them.
            expression="IF(running >= 0 AND FILL(requests, 0) < 1, 1, 0)",
            using_metrics={
                "running": self.of_variant("CPUUtilization", "chat", "Average", AN_HOUR, INSTANCES),
                "requests": self.of_variant("Invocations", "chat", "Sum", AN_HOUR),
            },
            label="idle",
            period=Duration.minutes(AN_HOUR),
        )

    def _seconds(self, name: str, role: str, statistic: str) -> cloudwatch.MathExpression:
        return cloudwatch.MathExpression(
            # Ids are shared by a graph, so they name what they are.
            expression=f"{role}_{name.lower()}_{statistic} / {MICROSECONDS}",
            using_metrics={f"{role}_{name.lower()}_{statistic}": self.of_variant(name, role, statistic)},
            label=f"{role} {name} {statistic}, s",
            period=Duration.minutes(FIVE_MINUTES),
        )

    def _mean_of_gpus(self, name: str, role: str) -> cloudwatch.MathExpression:
        gpus = self._settings.instance_type("chat" if role == "chat" else "moderation").gpus
        return cloudwatch.MathExpression(
            expression=f"{role}_{name.lower()} / {gpus}",
            using_metrics={
                f"{role}_{name.lower()}": self.of_variant(name, role, "Maximum", namespace=INSTANCES)
            },
            label=f"{role} {name}, %",
            period=Duration.minutes(FIVE_MINUTES),
        )
