// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC20} from "./ERC20.sol";

interface FlashBorrower {
    function onFlashLoan(ERC20[] calldata tokens, uint256[] calldata amounts, uint256[] calldata fees) external;
}

/// Lends any amount without security, to be paid back with a fee before the transaction ends.
contract FlashLender {
    uint256 private constant FEE_IN_BASIS_POINTS = 9;

    error NotRepaid(ERC20 token);

    function flashLoan(FlashBorrower borrower, ERC20[] calldata tokens, uint256[] calldata amounts) external {
        uint256[] memory fees = new uint256[](tokens.length);
        uint256[] memory due = new uint256[](tokens.length);
        for (uint256 i = 0; i < tokens.length; i++) {
            fees[i] = (amounts[i] * FEE_IN_BASIS_POINTS) / 10_000;
            due[i] = tokens[i].balanceOf(address(this)) + fees[i];
            tokens[i].transfer(address(borrower), amounts[i]);
        }
        borrower.onFlashLoan(tokens, amounts, fees);
        for (uint256 i = 0; i < tokens.length; i++) {
            if (tokens[i].balanceOf(address(this)) < due[i]) revert NotRepaid(tokens[i]);
        }
    }
}
