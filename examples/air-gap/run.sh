#!/usr/bin/env bash
# The walk of docs/air-gap.md from end to end, on two sandboxes that stand for the two sides of an air gap. Needs
# ocisync and git on PATH; no cluster, no container engine, no root. Everything is written below a scratch directory.
#
#   ./examples/air-gap/run.sh
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

scratch=$(mktemp -d)
export HOME=$scratch GIT_CONFIG_NOSYSTEM=1
end() {
  status=$?
  # shellcheck disable=SC2046
  kill $(jobs -p) 2>/dev/null || true
  wait 2>/dev/null || true
  if [ "$status" != 0 ] && [ -s "$scratch/air-gap/agent.log" ]; then tail -20 "$scratch/air-gap/agent.log" >&2; fi
  rm -rf "$scratch"
}
trap end EXIT

# -- two sides -----------------------------------------------------------------
cp -r examples/air-gap ~/air-gap
cd ~/air-gap
ocisync sandbox --dir near --registry-port 5001 > near.json &
ocisync sandbox --dir far --registry-port 5002 > far.json &
until [ -s near.json ] && [ -s far.json ]; do sleep 0.2; done
export NEAR=127.0.0.1:5001 FAR=127.0.0.1:5002

# -- the near side: what CI does -----------------------------------------------
ocisync keys generate release
ocisync push web oci://$NEAR/cache/web:1.27 --no-git --revision web-1.27
git init -q shop
git -C shop add .
git -C shop -c user.name=ci -c user.email=ci@registry.example commit -q -m "Release 1.0.0"
ocisync push shop oci://$NEAR/shop:1.0.0 oci://$NEAR/shop:production \
  --sign-key release.key --legacy-signature --provenance

# -- from registry to registry -------------------------------------------------
ocisync policy init --repository $NEAR/shop --key release.pub > near-policy.yaml
ocisync mirror plan oci://$NEAR/shop:1.0.0 oci://$FAR/connected \
  --images --images-from registry.example=$NEAR/cache
ocisync mirror copy oci://$NEAR/shop:1.0.0 oci://$FAR/connected \
  --images --images-from registry.example=$NEAR/cache --policy near-policy.yaml

# -- the same every night ------------------------------------------------------
ocisync mirror sync mirror-set.yaml --policy near-policy.yaml

# -- a file --------------------------------------------------------------------
ocisync keys generate sender
ocisync mirror save oci://$NEAR/shop --tag production --tag '1.*' \
  --images --images-from registry.example=$NEAR/cache \
  --sign-key sender.key --with-trust release.pub --trust-version 1 -o releases.tar

# -- the far side: trust -------------------------------------------------------
ocisync mirror trust releases.tar
ocisync mirror trust releases.tar --to trusted \
  --fingerprint sha256:$(sha256sum release.pub | cut -c 1-64)

# -- the far side: names -------------------------------------------------------
ocisync mirror map releases.tar oci://$FAR/shop
ocisync policy init --repository $FAR/shop --key trusted/release.pub \
  --remap $NEAR/shop=$FAR/shop > site/policy.yaml

# -- the far side: load --------------------------------------------------------
ocisync keys generate site
ocisync mirror verify releases.tar --at oci://$FAR/shop --policy site/policy.yaml --sender-key sender.pub
ocisync mirror load releases.tar oci://$FAR/shop --policy site/policy.yaml --sender-key sender.pub \
  --receipt receipt.json --sign-key site.key

# -- the far side: run ---------------------------------------------------------
export KUBECONFIG=~/air-gap/far/kubeconfig
ocisync install --crds-only --apply
ocisync apply site --no-git --name site -n default
ocisync agent --http-address off --cache-dir cache 2> agent.log &
ocisync wait shop -n shop --timeout 2m
ocisync status shop -n shop

# -- the next release: a delta -------------------------------------------------
sed -i 's/greeting: hello/greeting: good morning/' shop/web.yaml
git -C shop -c user.name=ci -c user.email=ci@registry.example commit -q -a -m "Release 1.1.0"
ocisync push shop oci://$NEAR/shop:1.1.0 oci://$NEAR/shop:production --sign-key release.key --provenance
ocisync mirror save oci://$NEAR/shop --tag production --tag '1.*' \
  --images --images-from registry.example=$NEAR/cache \
  --since receipt.json --since-key site.pub --sign-key sender.key -o delta.tar
ocisync mirror load delta.tar oci://$FAR/shop --policy site/policy.yaml --sender-key sender.pub \
  --receipt receipt.json --sign-key site.key
ocisync wait shop -n shop --timeout 2m --revision "$(git -C shop rev-parse HEAD)"
