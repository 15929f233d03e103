"""What `ock up` and `ock down` do and say."""

from __future__ import annotations

from client.deployment import Deployment
from client.errors import CallFailed
from client.stacks import EndpointSwitch, StackEvent
from client.terminal import Screen

SUCCESS = ("CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE")


def switch(deployment: Deployment, *, on: bool, wait: bool) -> None:
    """Turn the endpoint on or off; with `wait`, first let an update end that is under way.

    Raises:
        CallFailed: the stack takes no update, or the update failed and was undone.
    """
    screen = Screen()
    settings = deployment.settings()
    switch = EndpointSwitch(deployment.session(), settings.stack_names["Endpoint"])
    word = "on" if on else "off"

    def show(event: StackEvent) -> None:
        screen.line(str(event), dim=True)

    known: set[str] = set()
    if wait and switch.stack.describe() is not None:
        list(switch.stack.events(known))  # what happened before is no news
        switch.stack.wait(show, known)
    if not switch.turn(on=on):
        screen.line(f"{settings.endpoint_name} is {word} already")
        return
    screen.line(f"{settings.endpoint_name}: turning {word} (stack {switch.stack.name})")
    if not wait:
        screen.line("--wait shows how it goes on; CloudFormation works without it too", dim=True)
        return
    reasons: list[str] = []

    def follow(event: StackEvent) -> None:
        show(event)
        if event.status.endswith("_FAILED") and event.reason:
            reasons.append(event.reason)

    try:
        status = switch.stack.wait(follow, known)
    except KeyboardInterrupt:
        screen.line("not waiting any longer; the update goes on", fg="yellow")
        raise
    if status not in SUCCESS:
        cause = f": {reasons[0]}" if reasons else ""
        raise CallFailed(f"{switch.stack.name} is {status}, the endpoint was not turned {word}{cause}")
    screen.line(f"{settings.endpoint_name} is {word}")
