{
  motd = "web-1 at your service";
}
