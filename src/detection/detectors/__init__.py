"""The detectors by name. To add one, write its class and add a line here."""

from collections.abc import Mapping
from typing import Final

from src.detection.detectors.address_poisoning import AddressPoisoningDetector
from src.detection.detectors.arbitrage import ArbitrageDetector
from src.detection.detectors.balanced import BalancedDetector
from src.detection.detectors.base import Detector
from src.detection.detectors.flash_loan_profit import FlashLoanProfitDetector
from src.detection.detectors.fresh_account_large_value import FreshAccountLargeValueDetector
from src.detection.detectors.fresh_contract_drain import FreshContractDrainDetector
from src.detection.detectors.impersonated_token import ImpersonatedTokenDetector
from src.detection.detectors.isolation_forest import IsolationForestDetector
from src.detection.detectors.known_bad_address import KnownBadAddressDetector
from src.detection.detectors.losses import DrainedAccountDetector, EmptiedAccountDetector
from src.detection.detectors.mints import DisproportionateMintDetector, InflatedSupplyDetector
from src.detection.detectors.phished_allowance import (
    ApprovalPhishingDetector,
    DrainerSplitDetector,
)
from src.detection.detectors.supervised import SupervisedDetector

_CLASSES: tuple[type[Detector], ...] = (
    IsolationForestDetector,
    SupervisedDetector,
    KnownBadAddressDetector,
    ImpersonatedTokenDetector,
    AddressPoisoningDetector,
    FreshAccountLargeValueDetector,
    FlashLoanProfitDetector,
    DrainedAccountDetector,
    EmptiedAccountDetector,
    DrainerSplitDetector,
    ApprovalPhishingDetector,
    DisproportionateMintDetector,
    InflatedSupplyDetector,
    FreshContractDrainDetector,
    ArbitrageDetector,
    BalancedDetector,
)

DETECTORS: Final[Mapping[str, type[Detector]]] = {cls.NAME: cls for cls in _CLASSES}
"""Every detector's class by its name."""
