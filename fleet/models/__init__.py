"""What stands where, what it serves, and what is on its way."""

from fleet.models.hosts import Host, HostType
from fleet.models.places import Hall, Rack, Region, Row, Site
from fleet.models.services import Readiness, Service
from fleet.models.supply import Delivery

__all__ = [
    "Delivery",
    "Hall",
    "Host",
    "HostType",
    "Rack",
    "Readiness",
    "Region",
    "Row",
    "Service",
    "Site",
]
