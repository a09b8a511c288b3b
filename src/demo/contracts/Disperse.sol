// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC20} from "./ERC20.sol";

/// Pays many receivers in one transaction.
contract Disperse {
    function disperse(ERC20 token, address[] calldata receivers, uint256[] calldata amounts) external {
        uint256 total = 0;
        for (uint256 i = 0; i < amounts.length; i++) total += amounts[i];
        token.transferFrom(msg.sender, address(this), total);
        for (uint256 i = 0; i < receivers.length; i++) token.transfer(receivers[i], amounts[i]);
    }
}
