# name -> host description -> the part of a nixosSystem result that an agent
# uses: { config.system.build.toplevel; … }
#
# The toplevel has the files of a real NixOS toplevel that an agent or the boot
# chain reads. Its builders are the host's /bin/sh: build with sandbox = false.
#
# host: {
#   release kernel initrd modules params initInterface   texts
#   activation    shell text of a snippet of the activation script; it fails with "exit 1"
#   aborts        shell text in the activation script itself: "exit 1" ends it
#   bootLoader    shell text before the boot loader is installed; "exit 1" fails
#   check         shell text of the pre-switch check; "exit 1" refuses
#   lock          "fail" (the Rust program) or "wait" (the Perl one)
#   inhibitors    attribute set: critical components
#   units         name -> { text; wantedBy; }
#   agent         null, or the directory of the agent's program on the host
#   settings      of services.npcnix
#   specialisation  name -> what differs
#   payload       grows the closure, and the kernel on /boot
# }
name: host:
let
  system = host.system or "x86_64-linux";

  # A derivation that runs a script with the host's shell and coreutils.
  sh = drvName: env: script: derivation ({
    name = drvName;
    inherit system;
    builder = "/bin/sh";
    args = [ "-euc" ("export PATH=/usr/bin:/bin\n" + script) ];
    preferLocalBuild = true;
  } // env);

  release = host.release or "25.05.toy.1";
  kernelVersion = host.kernel or "6.12.30";

  agent = sh "npcnix" { dir = host.agent; } ''
    mkdir -p $out/bin; cp "$dir"/npcnix-reconciler $out/bin/
  '';
  # nixos/module.nix itself, as nixpkgs would evaluate it.
  npcnix = import ./eval.nix {
    module = ./module.nix;
    user = { enable = true; } // (host.settings or { });
    tools = {
      nix = "/usr"; coreutils = "/usr"; gitMinimal = "/usr"; openssh = "/usr"; util-linux = "/usr";
      runtimeShell = "/bin/sh"; npcnix = agent;
    };
  };
  agentUnits = if host.agent or null == null then { } else
    builtins.mapAttrs (_: text: { inherit text; wantedBy = [ "multi-user.target" ]; }) npcnix.units;
  units = agentUnits // (host.units or { });

  kernel = sh "linux-${kernelVersion}" { v = kernelVersion; payload = host.payload or ""; } ''
    mkdir -p $out; printf '%s\n' "kernel $v" "$payload" > $out/bzImage
  '';
  initrd = sh "initrd-linux-${kernelVersion}" { v = host.initrd or "1"; } ''
    mkdir -p $out; echo "initrd $v" > $out/initrd
  '';
  modules = sh "linux-${kernelVersion}-modules" { v = host.modules or kernelVersion; } ''
    mkdir -p $out/lib/modules/$v; : > $out/lib/modules/$v/modules.order
  '';

  # Texts are handed over as variables: they may name the agent's store path.
  variable = n: "unit_" + builtins.replaceStrings [ "." "-" "@" "\\" ] [ "_" "_" "_" "_" ] n;
  unitTexts = builtins.listToAttrs (map (n: { name = variable n; value = units.${n}.text; }) (builtins.attrNames units));
  etc = sh "etc" ({ hostName = name; config = builtins.toJSON npcnix.config; hasAgent = toString (agentUnits != { }); } // unitTexts) (''
    mkdir -p $out/etc/systemd/system
    printf '%s\n' "$hostName" > $out/etc/hostname
    [ -z "$hasAgent" ] || { mkdir $out/etc/npcnix; printf '%s\n' "$config" > $out/etc/npcnix/reconciler.yaml; }
  '' + builtins.concatStringsSep "" (map
    (n: ''
      printf %s "$'' + variable n + ''" > $out/etc/systemd/system/${n}
    '' + builtins.concatStringsSep "" (map
      (t: ''
        mkdir -p $out/etc/systemd/system/${t}.wants
        ln -s ../${n} $out/etc/systemd/system/${t}.wants/${n}
      '')
      (units.${n}.wantedBy or [ ])))
    (builtins.attrNames units)));

  specialisations = builtins.mapAttrs
    (n: differs: (import ./system.nix name (builtins.removeAttrs host [ "specialisation" ] // differs)).config.system.build.toplevel)
    (host.specialisation or { });

  toplevel = sh "nixos-system-${name}-${release}"
    {
      inherit kernel initrd modules etc release;
      hostSystem = system;
      params = host.params or "loglevel=4 lsm=landlock,yama,bpf";
      initInterface = host.initInterface or "systemd 2";
      inhibitors = builtins.toJSON (host.inhibitors or { systemd = "/usr/lib/systemd"; });
      activation = builtins.toFile "activation" (host.activation or "");
      aborts = builtins.toFile "aborts" (host.aborts or "");
      bootLoader = builtins.toFile "boot-loader" (host.bootLoader or "");
      check = builtins.toFile "check" (host.check or "");
      lock = host.lock or "fail";
      activateSrc = ./activate.sh;
      switchSrc = ./switch-to-configuration.sh;
      payload = host.payload or "";
      stc = toString (host.stc or true);
    }
    (''
      mkdir -p $out/bin $out/sw $out/specialisation
      ln -s /usr/bin $out/sw/bin
      printf %s "$release" > $out/nixos-version
      printf %s "$hostSystem" > $out/system
      printf %s "$params" > $out/kernel-params
      printf %s "$initInterface" > $out/init-interface-version
      printf %s "$inhibitors" > $out/switch-inhibitors
      printf %s "$payload" > $out/extra-dependencies
      ln -s $kernel/bzImage $out/kernel
      ln -s $initrd/initrd $out/initrd
      ln -s $modules $out/kernel-modules
      ln -s $etc/etc $out/etc
      {
        echo '#!/bin/sh'; echo "toplevel=$out"; sed '/@activation@/,$d' $activateSrc
        echo '( true'; cat $activation; echo; echo ') || status=1'; cat $aborts; echo
        sed '1,/@activation@/d' $activateSrc
      } > $out/activate
      { echo '#!/bin/sh'; echo 'true'; } > $out/dry-activate
      cat > $out/init <<INIT
      #!/bin/sh
      # stage 2: activate the system that the boot loader chose, then systemd
      mount -o remount,rw / 2>/dev/null
      mkdir -p /run/nixos
      ln -sfn $out /run/booted-system
      $out/activate
      exec /usr/lib/systemd/systemd "\$@"
      INIT
      if [ -n "$stc" ]; then
        {
          echo '#!/bin/sh'; echo "toplevel=$out lock=$lock"
          echo 'pre_switch_check() ( true'; cat $check; echo; echo ')'
          echo 'boot_loader() ( true'; cat $bootLoader; echo; echo ')'
          cat $switchSrc
        } > $out/bin/switch-to-configuration
        chmod 0555 $out/bin/switch-to-configuration
      fi
      chmod 0555 $out/activate $out/dry-activate $out/init
    '' + builtins.concatStringsSep "" (map (n: "ln -s ${specialisations.${n}} $out/specialisation/${n}\n") (builtins.attrNames specialisations)));
in
{
  config.system.build = { inherit toplevel etc kernel; };
  config.system.nixos.version = release;
  config.networking.hostName = name;
}
