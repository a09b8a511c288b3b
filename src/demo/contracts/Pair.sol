// SPDX-License-Identifier: MIT
pragma solidity ^0.8.24;

import {ERC20} from "./ERC20.sol";

/// A constant-product market of two tokens with a fee of 0.3%, itself a token for its providers.
/// Callers pay first and call afterwards: what came in since the last call is the payment.
contract Pair is ERC20 {
    ERC20 public immutable token0;
    ERC20 public immutable token1;
    uint256 public reserve0;
    uint256 public reserve1;

    error NothingPaid();

    constructor(ERC20 token0_, ERC20 token1_) {
        (token0, token1) = (token0_, token1_);
        (name, symbol, decimals) = ("Demo Liquidity", "DEMO-LP", 18);
    }

    /// Liquidity tokens for the tokens of both sides that came in.
    function mint(address to) external returns (uint256 liquidity) {
        uint256 paid0 = token0.balanceOf(address(this)) - reserve0;
        uint256 paid1 = token1.balanceOf(address(this)) - reserve1;
        if (paid0 == 0 || paid1 == 0) revert NothingPaid();
        if (totalSupply == 0) {
            liquidity = _squareRoot(paid0 * paid1);
        } else {
            uint256 share0 = (paid0 * totalSupply) / reserve0;
            uint256 share1 = (paid1 * totalSupply) / reserve1;
            liquidity = share0 < share1 ? share0 : share1;
        }
        _mint(to, liquidity);
        _update();
    }

    /// Pays out the other token for the `tokenIn` that came in.
    function swap(ERC20 tokenIn, address to) external returns (uint256 amountOut) {
        (ERC20 tokenOut, uint256 reserveIn, uint256 reserveOut) = tokenIn == token0
            ? (token1, reserve0, reserve1)
            : (token0, reserve1, reserve0);
        uint256 paid = tokenIn.balanceOf(address(this)) - reserveIn;
        if (paid == 0) revert NothingPaid();
        uint256 paidAfterFee = paid * 997;
        amountOut = (paidAfterFee * reserveOut) / (reserveIn * 1000 + paidAfterFee);
        tokenOut.transfer(to, amountOut);
        _update();
    }

    /// The present balance of the pool in `token`: one half of its spot price.
    function reserveOf(ERC20 token) external view returns (uint256) {
        return token == token0 ? reserve0 : reserve1;
    }

    function _update() private {
        (reserve0, reserve1) = (token0.balanceOf(address(this)), token1.balanceOf(address(this)));
    }

    function _squareRoot(uint256 x) private pure returns (uint256 root) {
        if (x == 0) return 0;
        root = x;
        for (uint256 next = x / 2 + 1; next < root; next = (x / next + next) / 2) root = next;
    }
}
