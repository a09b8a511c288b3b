// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC20} from "./ERC20.sol";

/// A token that anyone may mint: for local chains only.
/// It has no constructor, so that its code can be put at the address of a well-known token.
contract Token is ERC20 {
    error AlreadyInitialised();

    function initialise(string calldata name_, string calldata symbol_, uint8 decimals_) external {
        if (bytes(symbol).length != 0) revert AlreadyInitialised();
        (name, symbol, decimals) = (name_, symbol_, decimals_);
    }

    function mint(address to, uint256 value) external {
        _mint(to, value);
    }
}
