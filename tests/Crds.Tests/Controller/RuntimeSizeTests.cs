using Xunit.Abstractions;

namespace Bgsnap.Crds.Tests.Controller;

public sealed class RuntimeSizeTests(ITestOutputHelper output)
{
    private const int Limit = 700;

    [Fact]
    public void The_client_and_the_runtime_stay_small()
    {
        int all = 0,
            code = 0;
        foreach (string folder in new[] { "Client", "Controller" })
        {
            foreach (string file in Directory.GetFiles(Repository.Path("src", "Crds", folder), "*.cs"))
            {
                string[] lines = File.ReadAllLines(file);
                all += lines.Length;
                code += lines.Select(l => l.Trim()).Count(l => l.Length > 0 && !l.StartsWith("//", StringComparison.Ordinal));
            }
        }
        output.WriteLine($"{code} lines of code, {all} with comments and blank lines");
        Assert.InRange(code, 1, Limit - 1);
    }
}
