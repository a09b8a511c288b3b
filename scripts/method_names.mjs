// Signatures of methods by selector, for `build_chain_data.mjs`: from the ABIs of npm packages, and the
// methods that people call most on mainnet.

// Of WETH, Uniswap, 1inch, Compound, Balancer, Tornado Cash, Disperse, Safe and ENS.
const OFTEN_CALLED = [
  "deposit()", "withdraw(uint256)", "mint(address,uint256)", "mint(uint256)", "burn(uint256)",
  "increaseAllowance(address,uint256)", "permit(address,address,uint256,uint256,uint8,bytes32,bytes32)",
  "swapExactTokensForTokens(uint256,uint256,address[],address,uint256)",
  "swapTokensForExactTokens(uint256,uint256,address[],address,uint256)",
  "swapExactETHForTokens(uint256,address[],address,uint256)",
  "swapETHForExactTokens(uint256,address[],address,uint256)",
  "swapExactTokensForETH(uint256,uint256,address[],address,uint256)",
  "swapTokensForExactETH(uint256,uint256,address[],address,uint256)",
  "swapExactTokensForTokensSupportingFeeOnTransferTokens(uint256,uint256,address[],address,uint256)",
  "swapExactETHForTokensSupportingFeeOnTransferTokens(uint256,address[],address,uint256)",
  "swapExactTokensForETHSupportingFeeOnTransferTokens(uint256,uint256,address[],address,uint256)",
  "addLiquidity(address,address,uint256,uint256,uint256,uint256,address,uint256)",
  "addLiquidityETH(address,uint256,uint256,uint256,address,uint256)",
  "removeLiquidity(address,address,uint256,uint256,uint256,address,uint256)",
  "removeLiquidityETH(address,uint256,uint256,uint256,address,uint256)",
  "swap(uint256,uint256,address,bytes)", "sync()", "skim(address)",
  "execute(bytes,bytes[],uint256)", "execute(bytes,bytes[])",
  "multicall(bytes[])", "multicall(uint256,bytes[])", "multicall(bytes32,bytes[])",
  "exactInputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))",
  "exactInput((bytes,address,uint256,uint256,uint256))",
  "exactOutputSingle((address,address,uint24,address,uint256,uint256,uint256,uint160))",
  "exactOutput((bytes,address,uint256,uint256,uint256))",
  "swap(address,(address,address,address,address,uint256,uint256,uint256),bytes,bytes)",
  "swap(address,(address,address,address,address,uint256,uint256,uint256),bytes)",
  "unoswap(address,uint256,uint256,bytes32[])", "uniswapV3Swap(uint256,uint256,uint256[])",
  "borrow(uint256)", "repayBorrow(uint256)", "redeem(uint256)", "redeemUnderlying(uint256)",
  "liquidateBorrow(address,uint256,address)",
  "flashLoan(address,address[],uint256[],bytes)", "flashLoan(address,address,uint256,bytes)",
  "joinPool(bytes32,address,address,(address[],uint256[],bytes,bool))",
  "exitPool(bytes32,address,address,(address[],uint256[],bytes,bool))",
  "exchange(int128,int128,uint256,uint256)", "add_liquidity(uint256[2],uint256)",
  "add_liquidity(uint256[3],uint256)", "remove_liquidity_one_coin(uint256,int128,uint256)",
  "deposit(uint256)", "withdraw(uint256,uint256)", "deposit(uint256,uint256)", "claim()",
  "claim(uint256,address,uint256,bytes32[])", "getReward()", "stake(uint256)", "exit()", "harvest()",
  "deposit(bytes32)", "withdraw(bytes,bytes32,bytes32,address,address,uint256,uint256)",
  "disperseEther(address[],uint256[])", "disperseToken(address,address[],uint256[])",
  "batchTransfer(address[],uint256[])", "multiTransfer(address[],uint256[])",
  "airdrop(address[],uint256[])", "airdrop(address,address[],uint256[])",
  "execTransaction(address,uint256,bytes,uint8,uint256,uint256,uint256,address,address,bytes)",
  "handleOps((address,uint256,bytes,bytes,uint256,uint256,uint256,uint256,uint256,bytes,bytes)[],address)",
  "upgradeTo(address)", "upgradeToAndCall(address,bytes)", "transferOwnership(address)",
  "propose(address[],uint256[],string[],bytes[],string)", "castVote(uint256,uint8)",
];

// Where two signatures have one selector, the one called more often comes first.
export function methodNames(viem, ...packages) {
  const methods = new Map(
    OFTEN_CALLED.map((signature) => [viem.toFunctionSelector(signature), signature]),
  );
  for (const abi of [viem, ...packages].flatMap(Object.values).filter(Array.isArray)) {
    for (const entry of abi) {
      if (entry?.type === "function" && !["view", "pure"].includes(entry.stateMutability)) {
        const selector = viem.toFunctionSelector(entry);
        if (!methods.has(selector)) methods.set(selector, viem.toFunctionSignature(entry));
      }
    }
  }
  return Object.fromEntries([...methods].sort());
}
