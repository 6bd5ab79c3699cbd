# hostName -> host description -> what an agent uses of a nixosSystem result:
# { config.system.build.toplevel; }
#
# The toplevel has the files of a real NixOS toplevel that an agent reads. It
# is built with the machine's own /bin/sh, so it needs `sandbox = false`, and it
# contains the file npcnix-root: it is activated below --root only.
hostName: host:
let
  release = host.release or "25.05.demo";

  toplevel = derivation {
    name = "nixos-system-${hostName}-${release}";
    system = host.system or "x86_64-linux";
    builder = "/bin/sh";
    args = [ "-euc" ("export PATH=/usr/bin:/bin\n" + script) ];
    inherit release;
    motd = host.motd or "";
    # Shell text that runs in the build, as a unit's source would be compiled.
    build = host.build or "";
    # Shell text of the activation script; "exit 1" makes it fail.
    activation = host.activation or "";
    # Units that fail to start when this system is activated.
    failedUnits = builtins.concatStringsSep " " (host.failedUnits or [ ]);
    # Another value than the running system's asks for a reboot.
    initInterface = host.initInterface or "systemd 2";
    # The marker; a host without it is never activated.
    marker = if host.demo or true then "1" else "";
    switch = ./switch-to-configuration.sh;
  };

  script = ''
    eval "$build"
    mkdir -p $out/bin $out/etc
    printf %s "$release" > $out/nixos-version
    printf '%s\n' "$motd" > $out/etc/motd
    printf %s "$initInterface" > $out/init-interface-version
    printf %s "$failedUnits" > $out/failed-units
    [ -z "$marker" ] || : > $out/npcnix-root
    { echo '#!/bin/sh'; printf '%s\n' "$activation"; } > $out/activate
    { echo '#!/bin/sh'; echo "toplevel=$out"; cat $switch; } > $out/bin/switch-to-configuration
    chmod 0555 $out/activate $out/bin/switch-to-configuration
  '';
in
{
  config.system.build.toplevel = toplevel;
}
