"""The guard: refuses a plan that would take away too much at once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping

from reconciler.model import Config, Safety
from reconciler.resources import Resources, backend_address, find_service

# Of two or three backends, losing one is always "too many percent".
FEWEST_FOR_PERCENT = 4


def find_objection(safety: Safety, desired: Resources, observed: Resources) -> str | None:
    """Return why the step from `observed` to `desired` is refused, or None."""
    return next(_objections(safety, desired, observed), None)


def find_override_objection(config: Config, overridden: Config) -> str | None:
    """Return why overrides are refused: they take away too much of what the file has.

    Args:
        config: what the file says.
        overridden: the same under the overrides.
    """
    return find_objection(config.safety, _describe(overridden), _describe(config))


def find_objection_to_file(
    safety: Safety, desired: Resources, observed: Resources, overridden: Collection[str]
) -> str | None:
    """Return why the step is refused for what the file changes in it, or None.

    Overrides were judged when they were given: the backends that they change, by
    address, count as kept. Once as if they were ready, so that an override makes no
    room for a larger change of the file; once as they stand, so that the file does
    not empty a service of all the others.
    """
    ready = dict.fromkeys(overridden, "ready")
    standing = {each: observed.get(each, {}).get("state", "ready") for each in overridden}
    present = {each: "ready" for each in overridden if each in desired}
    return find_objection(
        safety, _put_states(desired, ready), _put_states(observed, present)
    ) or find_objection(safety, _put_states(desired, standing), observed)


def _put_states(resources: Resources, states: Mapping[str, str]) -> Resources:
    return resources | {
        address: resources[address] | {"state": state}
        for address, state in states.items()
        if address in resources
    }


def _describe(config: Config) -> Resources:
    resources: Resources = {}
    for service in config.services:
        resources[f"service.{service.name}"] = {
            "name": service.name,
            "ring_size": service.ring_size,
        }
        for backend in service.backends:
            resources[backend_address(service.name, backend.name)] = {
                "state": backend.state.name.lower(),
                "weight": backend.weight,
            }
    return resources


def _objections(safety: Safety, desired: Resources, observed: Resources) -> Iterator[str]:
    seeds = [r["settings"]["hash_seed"] for r in (observed, desired) if "settings" in r]
    if len(set(seeds)) == 2 and _services(observed):
        yield "the hash seed changes (hash_seed, or name): every flow would move"
    for address in sorted({*observed} & {*desired}):
        before, after = observed[address], desired[address]
        for key in ("affinity", "ring_size"):
            if before.get(key) != after.get(key):
                yield f"service {after['name']}: another {key} moves flows of every backend"
    live, wanted = _live_backends(observed), _live_backends(desired)
    for service in sorted(_services(observed)):
        present = live[service]
        kept = present & wanted[service]
        if f"service.{service}" not in desired:
            continue
        removed = len(present) - len(kept)
        percent = 100 * removed / max(len(present), 1)
        if len(present) >= FEWEST_FOR_PERCENT and percent > safety.max_remove_percent:
            yield (
                f"service {service}: removes {removed} of {len(present)} backends"
                f" ({percent:.0f} %), safety.max_remove_percent is {safety.max_remove_percent}"
            )
    known = _services(observed)
    for service in sorted(_services(desired)):
        left = len(wanted[service])
        is_new = service not in known
        is_fewer = left < len(live[service])
        if left < safety.min_backends and (is_new or is_fewer):
            yield (
                f"service {service}: leaves {left} backends,"
                f" safety.min_backends is {safety.min_backends}"
            )


def _services(resources: Resources) -> set[str]:
    return {r["name"] for address, r in resources.items() if "ring_size" in r}


def _live_backends(resources: Resources) -> dict[str, set[str]]:
    """The addresses of the backends that take new flows, by service."""
    live: dict[str, set[str]] = defaultdict(set)
    for address, resource in resources.items():
        service = find_service(address)
        if service and resource["state"] == "ready" and resource["weight"]:
            live[service].add(address)
    return live
