"""What stands where, what feeds it, what it serves, what comes and goes, and who changed it."""

from fleet.models.access import RegionLimit
from fleet.models.changes import Change, ChangeHead, ChangeSet
from fleet.models.demands import DemandEvent, DemandOverride
from fleet.models.hosts import Card, FirmwareSet, Host, HostType, Lot, Maintenance, ScaleUpDomain
from fleet.models.places import Cooling, Hall, Rack, Region, Row, Site
from fleet.models.services import Deployment, Endpoint, Gate, Placement, Readiness, Service
from fleet.models.supply import Delivery, FirmwareBaseline, Order, PolicyEvent, Retirement
from fleet.models.trees import CoolingLink, CoolingNode, NetworkLink, NetworkNode, PowerLink, PowerNode

__all__ = [
    "Card",
    "Change",
    "ChangeHead",
    "ChangeSet",
    "Cooling",
    "CoolingLink",
    "CoolingNode",
    "Delivery",
    "DemandEvent",
    "DemandOverride",
    "Deployment",
    "Endpoint",
    "FirmwareBaseline",
    "FirmwareSet",
    "Gate",
    "Hall",
    "Host",
    "HostType",
    "Lot",
    "Maintenance",
    "NetworkLink",
    "NetworkNode",
    "Order",
    "Placement",
    "PolicyEvent",
    "PowerLink",
    "PowerNode",
    "Rack",
    "Readiness",
    "Region",
    "RegionLimit",
    "Retirement",
    "Row",
    "ScaleUpDomain",
    "Service",
    "Site",
]
