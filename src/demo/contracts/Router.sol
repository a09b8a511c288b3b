// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC20} from "./ERC20.sol";
import {Pair} from "./Pair.sol";

/// Knows the pairs and trades along a path of them.
contract Router {
    mapping(ERC20 => mapping(ERC20 => Pair)) public pairOf;

    error TooLittle(uint256 amountOut, uint256 minimumOut);

    function createPair(ERC20 a, ERC20 b) external {
        Pair pair = new Pair(a, b);
        (pairOf[a][b], pairOf[b][a]) = (pair, pair);
    }

    function addLiquidity(ERC20 a, ERC20 b, uint256 amountA, uint256 amountB, address to) external {
        Pair pair = pairOf[a][b];
        a.transferFrom(msg.sender, address(pair), amountA);
        b.transferFrom(msg.sender, address(pair), amountB);
        pair.mint(to);
    }

    function swap(uint256 amountIn, uint256 minimumOut, ERC20[] calldata path, address to)
        external
        returns (uint256 amountOut)
    {
        path[0].transferFrom(msg.sender, address(pairOf[path[0]][path[1]]), amountIn);
        for (uint256 hop = 0; hop + 1 < path.length; hop++) {
            bool last = hop + 2 == path.length;
            address receiver = last ? to : address(pairOf[path[hop + 1]][path[hop + 2]]);
            amountOut = pairOf[path[hop]][path[hop + 1]].swap(path[hop], receiver);
        }
        if (amountOut < minimumOut) revert TooLittle(amountOut, minimumOut);
    }
}
