class Spantap < Formula
  desc "@DESCRIPTION@"
  homepage "@HOMEPAGE@"
  version "@VERSION@"
  license any_of: ["Apache-2.0", "MIT"]

@ARCHIVES@

  def install
    bin.install "spantap"
    man1.install Dir["man/*"]
    bash_completion.install "completions/spantap.bash" => "spantap"
    zsh_completion.install "completions/_spantap"
    fish_completion.install "completions/spantap.fish"
  end

  test do
    assert_match "spantap #{version}", shell_output("#{bin}/spantap -V")
  end
end
