"""`ock cost`: what the chosen settings cost, before money is spent."""

from __future__ import annotations

import click

from client.deployment import Deployment, deployment_options
from client.estimate import Estimate, Instances, estimate
from client.prices import HOURS_A_MONTH, HOURS_A_WEEK, PriceList, load_prices
from client.terminal import Screen, as_json

WIDTH = 52


@click.command(short_help="Show what the settings cost.")
@click.option("--json", "as_one_json", is_flag=True, help="Print everything as one line of JSON.")
@deployment_options
def cost(deployment: Deployment, as_one_json: bool) -> None:
    """Show what a deployment costs by the hour and by the month, by schedule and scaled out.

    List prices in USD with their date, without data transfer, taxes and discounts. A price that could
    not be checked is left out and named. No call to AWS is made.
    """
    settings = deployment.settings()
    prices = load_prices()
    figures = estimate(settings, prices)
    if as_one_json:
        dated = {"date": prices.date.isoformat(), "region": prices.region, "currency": prices.currency}
        click.echo(as_json({"name": settings.name, **dated, **figures.as_fields()}))
        return
    screen = Screen()
    _show(screen, settings.name, figures, prices)
    region = deployment.session().region_name
    if region and region != prices.region:
        screen.line(f"{region} has prices of its own; these are of {prices.region}", fg="yellow")


def _show(screen: Screen, name: str, figures: Estimate, prices: PriceList) -> None:
    screen.line(f"{name}: list prices of {prices.region}, {prices.date}, USD", bold=True)
    screen.line()
    screen.line("while the endpoint is on, an hour", bold=True)
    for instances in figures.instances:
        screen.line(_row(_described(instances), _hourly(instances)))
    screen.line(_row("together", f"{figures.usd_hour:.2f}"))
    if figures.usd_hour_most > figures.usd_hour:
        screen.line(_row("scaled out", f"{figures.usd_hour_most:.2f}"))
    screen.line()
    screen.line("always, a month", bold=True)
    for fixed in figures.fixed:
        screen.line(_row(fixed.what, f"{fixed.usd_month:.2f}"))
    screen.line()
    screen.line("a month in all", bold=True)
    screen.line(_row(f"always on ({HOURS_A_MONTH} hours)", f"{figures.usd_month:,.2f}"))
    if figures.usd_month_scheduled is not None:
        hours = f"{figures.hours_week:g} of {HOURS_A_WEEK} hours a week"
        screen.line(_row(f"by the schedule ({hours})", f"{figures.usd_month_scheduled:,.2f}"))
    if figures.usd_hour_most > figures.usd_hour:
        screen.line(_row("always on and scaled out, at most", f"{figures.usd_month_most:,.2f}"))
    screen.line(_row("off (`ock down`)", f"{figures.usd_month_off:,.2f}"))
    screen.line()
    screen.line("by use", bold=True)
    for unit in figures.by_use:
        screen.line(_row(unit.what, f"{unit.usd:.3f}"))
    for what in figures.missing:
        screen.line(f"not in the sums: {what}", fg="yellow")


def _described(instances: Instances) -> str:
    count = str(instances.least)
    if instances.most > instances.least:
        count = f"{instances.least} to {instances.most}"
    return f"{instances.variant}: {count} x {instances.instance_type}"


def _hourly(instances: Instances) -> str:
    if instances.usd_hour_each is None:
        return "?"
    return f"{instances.usd_hour_each * instances.least:.2f}"


def _row(what: str, figure: str) -> str:
    return f"  {what:<{WIDTH}}{figure:>12}"
