"""Features of a transaction's ERC-20 transfers: one definition, for one row and for a table.

A transaction is the ordered list of its ERC-20 `Transfer` logs plus its sender (*origin*,
`tx.from`). *Inner* transfers are those with neither side the zero address: call frames cannot show
mints and burns, so every structural feature reads inner transfers only. That makes a transaction
look the same whether its transfers come from logs or from calls. Mints and burns count in the two
amount features alone (the zero account is then a payer like any other).

Terms: *net* is an account's received minus sent amount of one token in this transaction; a net
within `kernel.NET_TOLERANCE` of the gross flow is zero. An *outsider* is any account but
the origin. Counts enter as log2(1 + count) (or log2(count) where the count is at least 1), so that
a doubling is one unit. The amount features compare with what the token's own training transfers
moved, in robust standard deviations of log10(raw amount); tokens without a profile give 0.

All of this is computed from the transfers as logged and from their `view`, and models read the
larger of both: relays and fresh accounts of the sender's own cannot hide what the view shows.

Every feature is finite and at least 0; most are 0 for a plain payment. The range stated for each
holds for n transfers. Nothing reads names or symbols, receipts or gas: live handling has none.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from src.detection.features.batch import TransferBatch
from src.detection.features.kernel import Profile, transaction_features
from src.detection.features.reference_values import NO_VALUES, ReferenceValues
from src.detection.forest.manifest import Manifest, TokenAmounts
from src.detection.records import TransferLike

FEATURES: Final[Mapping[str, str]] = {
    "reverse_hops": (
        "Transfers that send a token back along an earlier hop of the same token and the same two "
        "accounts (flash loan repaid, swap undone). log2(1 + count), 0 to log2(n)."
    ),
    "reverse_share": "Share of the inner transfers that are reverse hops. 0 to 1.",
    "repaid_hops": (
        "Reverse hops that bring at least all that the opposite hops had moved so far (a loan "
        "repaid in full). log2(1 + count), 0 to log2(n)."
    ),
    "restored_balances": (
        "(token, account) balances that go below their start during the transaction and end at or "
        "above it: lenders made whole, pools drained and refilled. log2(1 + count), 0 to log2(1+n)."
    ),
    "pair_hops": (
        "Largest number of transfers between the same two accounts, any token, either direction. "
        "log2(count), 0 to log2(n)."
    ),
    "edge_repeats": (
        "Inner transfers per distinct (token, from, to): how often the same move is repeated. "
        "log2(ratio), 0 to log2(n)."
    ),
    "legs_per_token": (
        "Legs per distinct token, where legs is the smaller of the numbers of (token, payer) and "
        "(token, payee) combinations; an airdrop or a collection has one leg however long it is. "
        "log2(ratio), 0 to log2(n)."
    ),
    "pass_through": (
        "(token, account) combinations that receive and send with net zero (routers, attack "
        "contracts). log2(1 + count), 0 to log2(1 + n)."
    ),
    "through_degree": (
        "Largest min(transfers in, transfers out) of one account: the busiest relay; 0 for "
        "airdrops and collections. log2(1 + count), 0 to log2(1 + n)."
    ),
    "density": (
        "Distinct (token, from, to) moves per account beyond one: max(0, moves / accounts - 1). "
        "0 to n - 1, in practice below 10."
    ),
    "origin_absent": "1 when the transaction's sender is in no inner transfer, else 0.",
    "outsider_loss": (
        "Most tokens of which one outsider ends poorer. log2(1 + count), 0 to log2(1 + n)."
    ),
    "unattended_loss": (
        "outsider_loss when the origin is absent, else 0: tokens leave an account while the one "
        "who ordered it stays out of sight. 0 to log2(1 + n)."
    ),
    "origin_free_gain": (
        "Tokens of which the origin ends richer while it ends poorer of none. log2(1 + count), "
        "0 to log2(1 + n)."
    ),
    "unfunded_returns": (
        "reverse_hops when the origin ends poorer of no token, else 0: round trips on other "
        "people's money. 0 to log2(n)."
    ),
    "unfunded_pair_hops": (
        "pair_hops when the origin ends poorer of no token, else 0. 0 to log2(n)."
    ),
    "foreign_excess": (
        "Largest single transfer not sent by the origin (mints included), against the token's "
        "training amounts: robust z of log10(raw amount) above 2, capped. 0 to 4."
    ),
    "taken_excess": (
        "Largest net loss of an outsider (or net mint) of one token, against the token's training "
        "amounts, same unit. 0 to 4."
    ),
    "round_loss": (
        "Largest share (out - in) / out of a token that an account sends and does not get back, "
        "among (token, account) combinations that both receive and send. log10(share) + 2, floored "
        "at 0 (1%). 0 to 2."
    ),
    "max_in_degree": "Most transfers into one account. log2(1 + count), 0 to log2(1 + n).",
    "max_out_degree": "Most transfers out of one account. log2(1 + count), 0 to log2(1 + n).",
    "round_flows": (
        "(token, account) combinations that both receive and send. log2(1 + count), 0 to "
        "log2(1 + n)."
    ),
    "transfers_per_account": (
        "Inner transfers per account. log2(ratio), floored at 0. 0 to log2(n)."
    ),
    "two_token_edges": (
        "Ordered pairs of accounts between which more than one token moves in that direction. "
        "log2(1 + count), 0 to log2(1 + n / 2)."
    ),
    "kept_value": (
        "Largest value kept by an account that both paid and was paid and ends poorer of no token. "
        "log10(1 + 10 * ETH), capped. 0 to 5."
    ),
    "reversed_kept_value": (
        "The larger of kept_value and what the origin keeps if it ends poorer of no token; 0 "
        "without a reverse hop. 0 to 5."
    ),
    "lost_value": (
        "Largest value by which an outsider ends poorer, all tokens together. "
        "log10(1 + 10 * ETH), capped. 0 to 5."
    ),
}
"""What each feature says, by name, in the order of the columns."""

FEATURE_NAMES: Final[tuple[str, ...]] = tuple(FEATURES)

FOREST_INPUTS: Final[tuple[str, ...]] = FEATURE_NAMES[: FEATURE_NAMES.index("round_loss")]
"""What the Isolation Forest reads. The others vary among ordinary transactions as well: to a forest
they are noise, to a model that learns from attacks they are not."""


def columns_of(inputs: Iterable[str]) -> NDArray[np.intp]:
    """Positions of a model's inputs among FEATURE_NAMES."""
    return np.array([FEATURE_NAMES.index(name) for name in inputs], dtype=np.intp)


Form = Literal["logged", "view", "larger"]
"""What features are computed from: the transfers as logged, their `view`, or the larger of both."""

DEFAULT_FORM: Final[Form] = "larger"


@dataclass(frozen=True, slots=True)
class TokenProfile:
    """What training transfers of each known token moved, and what reference tokens are worth."""

    index: Mapping[str, int]  # by contract address, the token's row in `center` and `scale`
    center: NDArray[np.float64]  # median of log10(raw amount)
    scale: NDArray[np.float64]  # its robust standard deviation
    # By contract address, ETH per raw unit; tokens without one count as worth nothing.
    values: Mapping[str, float]

    @classmethod
    def from_manifest(cls, manifest: Manifest) -> Self:
        """What the model of that manifest knows of tokens."""
        return cls.from_amounts(manifest.token_amounts, manifest.reference_values)

    @classmethod
    def from_amounts(
        cls, amounts: Mapping[str, TokenAmounts], values: ReferenceValues = NO_VALUES
    ) -> Self:
        """Build from a manifest's `token_amounts` and `reference_values`."""
        return cls(
            index={address: row for row, address in enumerate(amounts)},
            center=np.array([known.center for known in amounts.values()], dtype=np.float64),
            scale=np.array([known.scale for known in amounts.values()], dtype=np.float64),
            values=values.eth_per_unit,
        )

    def values_of(self, batch: TransferBatch) -> NDArray[np.float64]:
        """By token id of a batch, what one raw unit is worth in ETH; 0 where it is not known."""
        values = [self.values.get(address, 0.0) for address in batch.token_addresses]
        return np.array(values, dtype=np.float64)


class Reading(NamedTuple):
    """What the kernels read out of a batch: features in both forms, and the `view` itself."""

    batch: TransferBatch  # the transfers
    # logged, in_view: features by form, shape (n_tx, len(FEATURE_NAMES)).
    logged: NDArray[np.float64]
    in_view: NDArray[np.float64]
    # position, payer, payee: by transfer of the view, its position in the batch, and its sides: ids
    # of accounts, and beyond those of tokens' lenders.
    position: NDArray[np.int64]
    payer: NDArray[np.int32]
    payee: NDArray[np.int32]
    party: NDArray[np.int64]  # by transaction, see `View`

    def features(self, form: Form = DEFAULT_FORM) -> NDArray[np.float64]:
        """The features of one form, columns as FEATURE_NAMES."""
        if form == "larger":
            return np.maximum(self.logged, self.in_view)
        return self.logged if form == "logged" else self.in_view


def read(batch: TransferBatch, profile: TokenProfile) -> Reading:
    """Read a batch."""
    rows = [profile.index.get(address, -1) for address in batch.token_addresses]
    known = Profile(
        profile.values_of(batch), np.array(rows, dtype=np.int32), profile.center, profile.scale
    )
    return Reading(batch, *transaction_features(batch.arrays, known, batch.n_accounts))


def read_one(
    transfers: Sequence[TransferLike], from_address: str, profile: TokenProfile
) -> Reading:
    """Read one transaction."""
    return read(TransferBatch.from_transactions([(transfers, from_address)]), profile)


def feature_table(
    batch: TransferBatch, profile: TokenProfile, form: Form = DEFAULT_FORM
) -> NDArray[np.float64]:
    """Features of a batch, shape (n_tx, len(FEATURE_NAMES)), columns as FEATURE_NAMES."""
    return read(batch, profile).features(form)


def feature_row(
    transfers: Sequence[TransferLike],
    from_address: str,
    profile: TokenProfile,
    form: Form = DEFAULT_FORM,
) -> NDArray[np.float64]:
    """Features of one transaction, shape (len(FEATURE_NAMES),)."""
    row: NDArray[np.float64] = read_one(transfers, from_address, profile).features(form)[0]
    return row
