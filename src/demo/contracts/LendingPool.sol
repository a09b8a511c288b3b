// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC20} from "./ERC20.sol";
import {Pair} from "./Pair.sol";

/// Lends several tokens against one collateral token. VULNERABLE ON PURPOSE: it takes the price of
/// the collateral from the present reserves of one market, which a single large trade can move.
/// Depositors get a receipt token. Only what the demo plays is here: no interest, no repayment.
contract LendingPool is ERC20 {
    ERC20 public immutable collateral;
    ERC20 public immutable quote;
    Pair public immutable market;
    /// Value of 10**18 of a token's smallest units, in US dollars with 18 decimals.
    mapping(ERC20 token => uint256) public priceOf;
    mapping(address account => uint256) public debtOf;

    error NotEnoughCollateral(uint256 debt, uint256 limit);

    /// `market` trades the collateral against `quote_`, one of the priced tokens.
    constructor(ERC20 collateral_, ERC20 quote_, Pair market_, ERC20[] memory tokens, uint256[] memory prices) {
        (collateral, quote, market) = (collateral_, quote_, market_);
        (name, symbol, decimals) = ("Demo Lending Receipt", "DEMO-R", 18);
        for (uint256 i = 0; i < tokens.length; i++) priceOf[tokens[i]] = prices[i];
    }

    function deposit(uint256 amount) external {
        collateral.transferFrom(msg.sender, address(this), amount);
        _mint(msg.sender, amount);
    }

    function borrow(ERC20 token, uint256 amount) external {
        uint256 debt = debtOf[msg.sender] + (amount * priceOf[token]) / 1e18;
        uint256 limit = (_collateralValue(msg.sender) * 3) / 4;
        if (debt > limit) revert NotEnoughCollateral(debt, limit);
        debtOf[msg.sender] = debt;
        token.transfer(msg.sender, amount);
    }

    function _collateralValue(address account) private view returns (uint256) {
        uint256 inQuote = (balanceOf[account] * market.reserveOf(quote)) / market.reserveOf(collateral);
        return (inQuote * priceOf[quote]) / 1e18;
    }
}
