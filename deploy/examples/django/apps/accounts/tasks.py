"""Account reports: read the orders (I/O), compute (CPU), put it together (platform)."""

from statistics import median

from celery import chain, chord, shared_task

from .models import Account, Order, Report


@shared_task
def provision_account(name):
    """Makes an account, once, however often it is asked to."""
    account, _ = Account.objects.get_or_create(name=name)
    return account.pk


@shared_task
def orders_of(account_id):
    """The orders of an account, in cents."""
    Account.objects.get(pk=account_id)
    return list(Order.objects.filter(account_id=account_id).order_by("pk").values_list("cents", flat=True))


@shared_task
def statistics(cents, account_id):
    """What is worth knowing of a list of amounts."""
    return {"account": account_id, "orders": len(cents), "total": sum(cents), "median": median(cents) if cents else 0}


@shared_task(bind=True)
def combine(self, parts):
    """The body of the chord: one report of all parts."""
    report, _ = Report.objects.update_or_create(
        task_id=self.request.id, defaults={"totals": {str(part["account"]): part["total"] for part in parts}}
    )
    return {"report": report.pk, "total": sum(part["total"] for part in parts), "accounts": parts}


def reporting(account_ids):
    """The workflow of a report: one chain an account, side by side, and then the whole."""
    return chord([chain(orders_of.s(account_id), statistics.s(account_id)) for account_id in account_ids], combine.s())


@shared_task(bind=True)
def account_report(self, account_ids):
    """Reports on accounts. The task becomes the workflow and takes its value."""
    return self.replace(reporting(account_ids))


@shared_task(bind=True)
def report_on_all_accounts(self):
    """Started by the clock."""
    return self.replace(reporting(Account.objects.order_by("pk").values_list("pk", flat=True)))


@shared_task(bind=True)
def forecast(self, account_id, order_number):
    """What the account's order of that number may amount to, as a model of the other service, which is known by its name, says."""
    fit = self.app.signature("app.atom.tasks.fit_series")
    predict = self.app.signature("app.atom.tasks.predict", args=(order_number,))
    return self.replace(chain(orders_of.s(account_id), fit, predict))
