# Evaluates nixos/module.nix against a small stub of what it uses of nixpkgs,
# and renders the units as NixOS does: options that the stub does not know are
# errors. tools are where the packages are.
{ module
, user
, tools ? {
    nix = "/nix/store/nix";
    coreutils = "/nix/store/coreutils";
    gitMinimal = "/nix/store/git";
    openssh = "/nix/store/openssh";
    util-linux = "/nix/store/util-linux";
    runtimeShell = "/nix/store/bash/bin/bash";
    npcnix = "/nix/store/npcnix";
  }
}:
let
  lib = rec {
    mkOption = o: { _option = true; } // o;
    mkEnableOption = what: mkOption { type = "bool"; default = false; description = "Whether to enable ${what}."; };
    mkIf = condition: content: if condition then content else { };
    optional = condition: value: if condition then [ value ] else [ ];
    optionalAttrs = condition: attrs: if condition then attrs else { };
    types = { package = "package"; path = "path"; nullOr = t: "null or ${t}"; };
    concatMapStrings = f: list: builtins.concatStringsSep "" (map f list);
  };
  pkgs = tools // {
    formats.yaml = _: {
      type = "yaml";
      generate = name: value: { inherit name value; };
    };
  };
  evaluated = import module { inherit config lib pkgs; };
  defaults = builtins.mapAttrs (_: o: o.default or (throw "option without a value")) evaluated.options.services.npcnix;
  config = {
    nix.package = tools.nix;
    services.npcnix = defaults // { package = tools.npcnix; } // user;
  };

  only = known: attrs:
    let unknown = builtins.attrNames (builtins.removeAttrs attrs known);
    in if unknown == [ ] then attrs else throw "no such option: ${toString unknown}";

  result = only [ "environment" "systemd" ] evaluated.config;

  line = name: value:
    if value == [ ] then ""
    else "${name}=${if builtins.isBool value then (if value then "true" else "false") else toString value}\n";
  section = attrs: lib.concatMapStrings (n: line n attrs.${n}) (builtins.attrNames attrs);

  render = options:
    let
      service = only
        [ "description" "documentation" "wantedBy" "wants" "after" "path" "restartIfChanged" "unitConfig" "serviceConfig" ]
        options;
    in
    ''
      [Unit]
    '' + section ({
      After = service.after or [ ];
      Description = service.description;
      Documentation = service.documentation or [ ];
      Wants = service.wants or [ ];
    } // service.unitConfig) + ''

      [Service]
    '' + line "Environment" "\"PATH=${builtins.concatStringsSep ":" (map (p: "${p}/bin") service.path)}\""
    + (if service.restartIfChanged then "" else line "X-RestartIfChanged" false)
    + section service.serviceConfig + ''

      [Install]
    '' + line "WantedBy" service.wantedBy;
in
{
  tmpfiles = (only [ "services" "tmpfiles" ] result.systemd).tmpfiles.rules;
  config = result.environment.etc."npcnix/reconciler.yaml".source.value;
  units = builtins.listToAttrs (map
    (name: { name = "${name}.service"; value = render result.systemd.services.${name}; })
    (builtins.attrNames result.systemd.services));
}
