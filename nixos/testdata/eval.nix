# Evaluates nixos/module.nix against a small stub of what it uses of nixpkgs,
# and renders the unit as NixOS does: options that the stub does not know are
# errors.
{ module, user }:
let
  lib = rec {
    mkOption = o: { _option = true; } // o;
    mkEnableOption = what: mkOption { type = "bool"; default = false; description = "Whether to enable ${what}."; };
    mkIf = condition: content: if condition then content else { };
    optionalAttrs = condition: attrs: if condition then attrs else { };
    types = { package = "package"; path = "path"; nullOr = t: "null or ${t}"; };
    concatMapStrings = f: list: builtins.concatStringsSep "" (map f list);
  };
  pkgs = {
    formats.yaml = _: {
      type = "yaml";
      generate = name: value: { inherit name value; };
    };
    coreutils = "/nix/store/coreutils";
    gitMinimal = "/nix/store/git";
    openssh = "/nix/store/openssh";
  };
  evaluated = import module { inherit config lib pkgs; };
  defaults = builtins.mapAttrs (_: o: o.default or (throw "option without a value")) evaluated.options.services.npcnix;
  config = {
    nix.package = "/nix/store/nix";
    services.npcnix = defaults // { package = "/nix/store/npcnix"; } // user;
  };

  only = known: attrs:
    let unknown = builtins.attrNames (builtins.removeAttrs attrs known);
    in if unknown == [ ] then attrs else throw "no such option: ${toString unknown}";

  result = only [ "environment" "systemd" ] evaluated.config;
  service = only
    [ "description" "documentation" "wantedBy" "wants" "after" "path" "restartIfChanged" "unitConfig" "serviceConfig" ]
    result.systemd.services.npcnix-reconciler;

  line = name: value: "${name}=${if builtins.isBool value then (if value then "true" else "false") else toString value}\n";
  section = attrs: lib.concatMapStrings (n: line n attrs.${n}) (builtins.attrNames attrs);
in
{
  config = result.environment.etc."npcnix/reconciler.yaml".source.value;
  unit = ''
    [Unit]
  '' + section ({
    After = service.after;
    Description = service.description;
    Documentation = service.documentation;
    Wants = service.wants;
  } // service.unitConfig) + ''

    [Service]
  '' + line "Environment" "\"PATH=${builtins.concatStringsSep ":" (map (p: "${p}/bin") service.path)}\""
  + (if service.restartIfChanged then "" else line "X-RestartIfChanged" false)
  + section service.serviceConfig + ''

    [Install]
  '' + line "WantedBy" service.wantedBy;
}
