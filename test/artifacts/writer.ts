/** Stores artifacts without end, to be killed. Arguments: directory, round. */
import { createArtifactStore } from '../../src/artifacts/store.ts';
import { exampleFiles, exampleManifest } from '../support/artifact.ts';

const [directory, round] = process.argv.slice(2) as [string, string];
const store = createArtifactStore(directory);
for (let i = 0; ; i++) {
  await store.put(
    exampleManifest({ id: `ft:b:local:${round}:${i}`, virtualTokens: 64, width: 64 }),
    exampleFiles(64, 64, i),
  );
  if (i === 0) process.send?.('started');
}
